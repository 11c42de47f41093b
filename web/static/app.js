// The pages work without this. It copies names, shows times in the reader's
// zone, and lets the reader walk through the days of a chart and choose some.

for (const button of document.querySelectorAll("button.copy")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  const words = button.textContent;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = words; }, 2000);
  });
}

const months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const pad = (n) => String(n).padStart(2, "0");
for (const time of document.querySelectorAll("time[datetime]")) {
  const t = new Date(time.dateTime);
  const ahead = -t.getTimezoneOffset();
  if (isNaN(t) || ahead === 0) continue;
  const off = Math.abs(ahead);
  const zone = (ahead < 0 ? "−" : "+") + pad(Math.floor(off / 60)) + ":" + pad(off % 60);
  time.title = time.textContent;
  time.textContent = `${t.getDate()} ${months[t.getMonth()]} ${t.getFullYear()}, ` +
    `${pad(t.getHours())}:${pad(t.getMinutes())}\u00a0${zone}`;
}

for (const menu of document.querySelectorAll(".period details")) away(menu);
for (const figure of document.querySelectorAll("figure.timeline")) walk(figure);
for (const figure of document.querySelectorAll("figure.brushing")) brush(figure);

// away closes what lies over the page once it is in the way: by Escape, which brings
// the focus back, by a key that leaves it, and by a click beside it.
function away(menu) {
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  menu.addEventListener("focusout", (event) => {
    const to = event.relatedTarget; // or what it is in, after a click between its fields
    if (to && !menu.contains(to) && !to.contains(menu)) menu.open = false;
  });
  document.addEventListener("pointerdown", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
}

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

// brush lets pointer and arrow keys choose the period of the page in a picture
// of a longer time: dragging chooses days, or moves those that are chosen; the
// arrows move them by a week, with Shift their end.
function brush(figure) {
  const day = 86400e3;
  const at = (name) => Date.parse(figure.dataset[name] + "T00:00:00Z") / day;
  const begin = at("begin"), end = at("end"), was = [at("from"), at("to")];
  const chart = figure.querySelector(".brush");
  const frame = chart.querySelector(".window"), pale = chart.querySelectorAll(".outside");
  const readout = figure.querySelector(".readout");
  const iso = (n) => new Date(n * day).toISOString().slice(0, 10);
  let from, to;
  let drag = null; // where a drag began, and what it moves

  const show = (a, b) => {
    [from, to] = [Math.max(begin, a), Math.min(end, b)];
    const x = (n) => (n - begin) / (end - begin) * 100;
    frame.setAttribute("x", x(from) + "%");
    frame.setAttribute("width", x(to) - x(from) + "%");
    pale[0].setAttribute("width", x(from) + "%");
    pale[1].setAttribute("x", x(to) + "%");
    pale[1].setAttribute("width", Math.max(0, 100 - x(to)) + "%");
    readout.hidden = from === was[0] && to === was[1];
    readout.textContent = `${iso(from)} to ${iso(to - 1)} (UTC), ${to - from} days: ` + (drag ? "let go to show them" : "Enter shows them");
  };
  const clear = () => { drag = null; show(...was); readout.hidden = true; };
  const choose = () => {
    const url = new URL(figure.dataset.address, location.href);
    url.searchParams.set("from", iso(from));
    url.searchParams.set("to", iso(to));
    location.assign(url);
  };
  // move shifts what is chosen by days, as far as there is room.
  const move = (a, b, by) => {
    by = Math.max(begin - a, Math.min(end - b, by));
    show(a + by, b + by);
  };
  const under = (event) => {
    const box = chart.getBoundingClientRect();
    return begin + Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * (end - begin);
  };
  const near = () => 8 / chart.getBoundingClientRect().width * (end - begin); // days that are eight pixels wide

  chart.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.clientY > chart.getBoundingClientRect().top + 40) return; // the months are links
    const x = under(event);
    const kind = Math.abs(x - from) < near() ? "from" : Math.abs(x - to) < near() ? "to" : x > from && x < to ? "all" : "new";
    drag = { x, kind, from, to };
    chart.setPointerCapture(event.pointerId);
    event.preventDefault();
    figure.focus({ preventScroll: true });
  });
  chart.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const x = under(event), by = Math.round(x - drag.x);
    switch (drag.kind) {
      case "all": return move(drag.from, drag.to, by);
      case "from": return show(Math.min(drag.to - 1, drag.from + by), drag.to);
      case "to": return show(drag.from, Math.max(drag.from + 1, drag.to + by));
      default: return show(Math.floor(Math.min(x, drag.x)), Math.ceil(Math.max(x, drag.x)));
    }
  });
  chart.addEventListener("pointerup", () => {
    if (!drag) return;
    const moved = from !== was[0] || to !== was[1];
    drag = null;
    if (moved) choose(); else clear();
  });
  chart.addEventListener("pointercancel", clear);

  figure.tabIndex = 0;
  figure.classList.add("live");
  figure.setAttribute("aria-label", "Period. The arrow keys move it by a week, with Shift its end; Enter shows it.");
  figure.addEventListener("blur", clear);
  figure.addEventListener("keydown", (event) => {
    if (event.target !== figure) return; // a link in it
    if (event.key === "Escape") return clear();
    if (event.key === "Enter" && (from !== was[0] || to !== was[1])) return choose();
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (event.shiftKey) show(from, Math.max(from + 1, to + 7 * way));
    else move(from, to, 7 * way);
  });
  clear();
}
