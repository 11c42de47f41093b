// The pages work without this. It copies names, shows times in the reader's
// zone, and lets the reader walk through the days of a chart and choose some.

for (const button of document.querySelectorAll("button.copy")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

const pad = (n) => String(n).padStart(2, "0");
for (const time of document.querySelectorAll("time[datetime]")) {
  const t = new Date(time.dateTime);
  const ahead = -t.getTimezoneOffset();
  if (isNaN(t) || ahead === 0) continue;
  const off = Math.abs(ahead);
  const zone = (ahead < 0 ? "−" : "+") + pad(Math.floor(off / 60)) + ":" + pad(off % 60);
  time.title = time.textContent;
  time.textContent = `${t.getFullYear()}-${pad(t.getMonth() + 1)}-${pad(t.getDate())} ` +
    `${pad(t.getHours())}:${pad(t.getMinutes())}\u00a0${zone}`;
}

for (const figure of document.querySelectorAll("figure.timeline")) walk(figure);

// walk lets pointer and arrow keys move through the days of a chart. Dragging,
// or Shift with the arrows, chooses days; letting go, or Enter, shows them.
function walk(figure) {
  const days = [...figure.querySelectorAll(".day")];
  const readout = figure.querySelector(".readout");
  if (days.length === 0 || !readout) return;
  // The readout says what the titles say, which would only cover the days.
  const says = days.map((d) => {
    const title = d.querySelector("title");
    title.remove();
    return title.textContent;
  });
  let at = -1;     // the day that is shown
  let anchor = -1; // where the chosen days begin or end
  let dragging = false;

  const range = () => anchor < 0 ? [at, at] : [Math.min(at, anchor), Math.max(at, anchor)];
  const show = (i) => {
    at = i;
    const [first, last] = range();
    days.forEach((d, j) => d.classList.toggle("lit", at >= 0 && j >= first && j <= last));
    readout.hidden = at < 0;
    if (at < 0) return;
    readout.textContent = first === last ? says[at]
      : `${days[first].dataset.from} to ${lastDay(days[last])} (UTC): ` + (dragging ? "let go to show these days" : "Enter shows these days");
  };
  const choose = () => {
    const [first, last] = range();
    const to = new URL(figure.dataset.address, location.href);
    to.searchParams.set("from", days[first].dataset.from);
    to.searchParams.set("to", days[last].dataset.to);
    location.assign(to);
  };
  const clear = () => { anchor = -1; dragging = false; show(-1); };
  const under = (event) => {
    const box = days[0].ownerSVGElement.getBoundingClientRect();
    const i = Math.floor((event.clientX - box.left) / box.width * days.length);
    return Math.max(0, Math.min(days.length - 1, i));
  };

  const plot = days[0].ownerSVGElement;
  plot.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse" || dragging) show(under(event));
  });
  plot.addEventListener("pointerleave", () => { if (!dragging) clear(); });
  plot.addEventListener("pointerdown", (event) => {
    show(under(event));
    if (event.button !== 0 || event.pointerType !== "mouse") return;
    anchor = at;
    dragging = true;
    plot.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  plot.addEventListener("pointerup", () => {
    if (!dragging) return;
    dragging = false;
    if (anchor !== at) choose();
    else { anchor = -1; show(at); }
  });
  plot.addEventListener("pointercancel", clear);

  figure.tabIndex = 0;
  figure.setAttribute("role", "group");
  figure.setAttribute("aria-label", "Chart. The arrow keys walk through the days; with Shift they choose some, and Enter shows those.");
  figure.addEventListener("blur", clear);
  figure.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -days.length, End: days.length };
    if (event.key === "Escape") return clear();
    if (event.key === "Enter" && anchor >= 0) return choose();
    if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const from = at < 0 ? days.length - 1 : at;
    if (!event.shiftKey) anchor = -1;
    else if (anchor < 0) anchor = from;
    const next = at < 0 && !event.shiftKey ? from : from + steps[event.key];
    show(Math.max(0, Math.min(days.length - 1, next)));
  });
}

// lastDay returns the last day that a strip of a chart stands for.
function lastDay(day) {
  const to = new Date(day.dataset.to + "T00:00:00Z");
  to.setUTCDate(to.getUTCDate() - 1);
  return to.toISOString().slice(0, 10);
}
