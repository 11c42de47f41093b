// Says that something new was stored, and does not move the page: numbers that are
// still where they were are renewed in place, and for the rest there is a quiet link.
// It listens only while the page is seen, so that many tabs do not use up what a
// browser may have open.

const address = document.body.dataset.live;
let source = null;
let busy = false;
let again = false;

function listen() {
  if (source || document.hidden || !window.EventSource) return;
  source = new EventSource(address);
  source.addEventListener("new", renew);
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
async function renew() {
  const fresh = [...document.querySelectorAll("[data-fresh]")];
  if (fresh.length === 0) return tell();
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) return tell();
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of fresh) {
      const now = [...page.querySelectorAll("[data-fresh]")].find((el) => el.dataset.fresh === old.dataset.fresh);
      if (now && !old.contains(document.activeElement)) old.replaceChildren(...now.childNodes);
    }
    const rows = (doc) => doc.querySelector(".ledger tbody")?.textContent ?? "";
    if (rows(page) !== rows(document)) tell();
  } catch {
    tell();
  } finally {
    busy = false;
  }
  if (again) {
    again = false;
    renew();
  }
}

// tell shows the link, once.
function tell() {
  if (document.querySelector(".new-data")) return;
  const note = document.createElement("p");
  note.className = "new-data";
  note.setAttribute("role", "status");
  note.append("New reports have come in. ");
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
