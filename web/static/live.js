// Says that reports have come in, or that something else has happened, and does not move
// the page: what is still where it was is renewed in place, and for the rest there is a
// quiet link.
// It listens only while the page is seen, so that many tabs do not use up what a
// browser may have open.

const address = document.body.dataset.live;
let source = null;
let busy = false;
let again = "";

function listen() {
  if (source || document.hidden || !window.EventSource) return;
  source = new EventSource(address);
  source.addEventListener("new", () => renew("New reports have come in. "));
  source.addEventListener("changed", () => renew("news" in document.body.dataset ? "Something new was found. " : ""));
}

function leave() {
  source?.close();
  source = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? leave() : listen()));
addEventListener("pagehide", leave);
addEventListener("pageshow", listen);
listen();

// renew fetches the page again and puts its numbers where the old ones are. What was
// shown in answer to a form is not fetched.
async function renew(news) {
  const fresh = [...document.querySelectorAll("[data-fresh]")];
  if (fresh.length === 0) return tell(news);
  if (busy) {
    again ||= news;
    return;
  }
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) return tell(news);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of fresh) {
      const now = [...page.querySelectorAll("[data-fresh]")].find((el) => el.dataset.fresh === old.dataset.fresh);
      if (now && !old.contains(document.activeElement)) old.replaceChildren(...now.childNodes);
    }
    const rest = (doc) => [...doc.querySelectorAll(".ledger tbody, .news")].map((el) => el.textContent).join();
    if (rest(page) !== rest(document)) tell(news);
  } catch {
    tell(news);
  } finally {
    busy = false;
  }
  if (again) {
    const later = again;
    again = "";
    renew(later);
  }
}

// tell shows the link, once.
function tell(news) {
  if (!news || document.querySelector(".new-data")) return;
  const note = document.createElement("p");
  note.className = "new-data";
  note.setAttribute("role", "status");
  note.append(news);
  const link = document.createElement("a");
  link.href = location.href;
  link.textContent = "Show them";
  link.addEventListener("click", (event) => {
    event.preventDefault();
    location.reload();
  });
  note.append(link);
  document.body.append(note);
}
