// Brings files that are dropped or chosen, one request each, and shows how far each
// is and what became of it. Without this, the form brings them all at once.

const form = document.querySelector("form[data-upload]");
if (form) bring(form);

function bring(form) {
  const area = document.querySelector(".uploads");
  const list = area.querySelector("ul");
  const sum = area.querySelector(".uploads-sum");
  const input = form.querySelector("input[type=file]");
  const queue = [];
  const atOnce = 2;
  let running = 0;
  const counts = { all: 0, done: 0, added: 0, trouble: 0 };
  let chart = "";

  form.querySelector(".drop-words").hidden = false;
  form.querySelector("label").className = "unseen"; // the words say it
  form.querySelector("button").hidden = true;
  input.addEventListener("change", () => {
    add(input.files);
    input.value = "";
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    add(input.files);
    input.value = "";
  });

  const withFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0;
  const lit = (on) => form.classList.toggle("over", on);
  addEventListener("dragenter", (event) => {
    if (withFiles(event)) lit(++depth > 0);
  });
  addEventListener("dragleave", (event) => {
    if (withFiles(event)) lit((depth = Math.max(0, depth - 1)) > 0);
  });
  addEventListener("dragover", (event) => {
    if (withFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!withFiles(event)) return;
    event.preventDefault();
    lit((depth = 0) > 0);
    add(event.dataTransfer.files);
  });
  addEventListener("beforeunload", (event) => {
    if (counts.done < counts.all) event.preventDefault();
  });

  function add(files) {
    for (const file of files) {
      const line = document.createElement("li");
      const name = document.createElement("b");
      const label = document.createElement("bdi");
      label.className = "mono";
      label.textContent = visible(file.name);
      name.append(label);
      const state = document.createElement("span");
      state.className = "what";
      state.textContent = "waits";
      const bar = document.createElement("progress");
      bar.max = 100;
      bar.value = 0;
      bar.setAttribute("aria-label", "How much of " + visible(file.name) + " is sent");
      line.append(name, " ", bar, " ", state);
      list.append(line);
      queue.push({ file, line, state, bar });
      counts.all++;
    }
    area.hidden = counts.all === 0;
    next();
  }

  function next() {
    tell();
    while (running < atOnce && queue.length > 0) {
      running++;
      send(queue.shift());
    }
  }

  function send({ file, line, state, bar }) {
    const body = new FormData();
    body.append("file", file, file.name);
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-CSRF-Token", form.elements.csrf.value);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) bar.value = (event.loaded / event.total) * 100;
      state.textContent = event.loaded < event.total ? "is sent" : "is read";
    });
    request.addEventListener("loadend", () => {
      let answer = null;
      try {
        answer = JSON.parse(request.responseText);
      } catch { /* not ours: a proxy's, or none */ }
      const result = answer?.files?.[0] ?? {
        state: "error", word: "not taken", added: 0,
        text: answer?.detail ?? (request.status === 413 ? "it is larger than may be sent here"
          : request.status === 0 ? "dmarcd cannot be reached; try it again" : "dmarcd answers with " + request.status + "; its log says why"),
      };
      show(line, bar, state, result);
      counts.done++;
      counts.added += result.added;
      if (result.state === "error" || result.state === "unknown") counts.trouble++;
      if (!chart && result.chart) chart = result.chart;
      running--;
      next();
    });
    request.send(body);
  }

  function show(line, bar, state, result) {
    const word = document.createElement("span");
    word.className = "sev " + result.state;
    word.textContent = result.word;
    bar.replaceWith(word);
    state.textContent = result.text;
    for (const [label, href] of [["Its page", result.message], ["Chart", result.chart]]) {
      if (!href) continue;
      const link = document.createElement("a");
      link.href = href;
      link.textContent = label;
      state.append(" ", link);
    }
    line.classList.add("done-with");
  }

  function tell() {
    const files = (n) => (n === 1 ? "1 file" : n.toLocaleString("en") + " files");
    const reports = (n) => (n === 1 ? "1 new report" : n.toLocaleString("en") + " new reports");
    if (counts.done < counts.all) {
      sum.textContent = `${files(counts.done)} of ${counts.all.toLocaleString("en")} done.`;
      return;
    }
    sum.textContent = `${files(counts.all)} done: ${reports(counts.added)}` + (counts.trouble ? `, and ${files(counts.trouble)} that could not be used.` : ".") + " ";
    if (chart) {
      const link = document.createElement("a");
      link.href = chart;
      link.className = "to-chart";
      link.textContent = "See the chart";
      sum.append(link);
    }
  }
}

// visible replaces what cannot be seen, or turns the direction of writing.
function visible(text) {
  return text.replace(/[\p{C}\u2028\u2029]/gu, "\ufffd");
}
