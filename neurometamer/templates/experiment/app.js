"use strict";
// Runs the experiment that experiment.js describes. No server, no network, no library: it also works from file://.
(() => {
  const E = window.EXPERIMENT;
  const COLUMNS = ["participant", "trial", "block", "phase", "stimulus", "condition", "stage", "model", "truth",
    "response", "rt", "correct", "fixation_ms", "image_ms", "mask_ms", "dropped_frames", "refresh_hz", "repeated",
    "seed", "page_version", "user_agent"];
  const KEYS = "1234qwerasdfzxcv";
  const CODES = ["Digit1", "Digit2", "Digit3", "Digit4", "KeyQ", "KeyW", "KeyE", "KeyR", "KeyA", "KeyS", "KeyD",
    "KeyF", "KeyZ", "KeyX", "KeyC", "KeyV"];
  const at = (id) => document.getElementById(id);
  const sections = ["welcome", "loading", "message", "stimulus", "response"];
  let state = null; // what is kept over a reload: participant, rows, starts, failed, finished, sent
  let kept = true; // whether the browser keeps it
  let warned = false; // whether the participant was told that it does not
  let gone = false; // whether another page of this browser has the experiment now
  let mine = () => true; // look whether this page still has the experiment
  let current = null; // stops the trial that runs
  let frame = 1000 / 60; // length of one frame, ms, as measured
  const images = new Map(); // code → decoded image

  // ------------------------------------------------------------------------------------------- numbers by seed

  function hash(text) { // FNV-1a, 32 bits; the Python side has the same
    let value = 2166136261;
    for (let i = 0; i < text.length; i += 1) value = Math.imul(value ^ text.charCodeAt(i), 16777619) >>> 0;
    return value;
  }

  function generator(seed) { // mulberry32: uniform numbers in [0, 1)
    let value = seed >>> 0;
    return () => {
      value = (value + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(value ^ (value >>> 15), value | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  }

  function shuffled(items, random) {
    const order = items.slice();
    for (let i = order.length - 1; i > 0; i -= 1) {
      const j = Math.floor(random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  function listOf(participant) { // P012 takes list 12; a code without a number takes one by its hash
    const digits = /\d{1,9}$/.exec(participant);
    return (digits ? Number(digits[0]) : hash(participant)) % E.lists[0].length;
  }

  // Photographs for catch trials stand one in each of as many equal stretches of the main trials.
  function withCatches(main, catches, random) {
    const trials = main.map((code) => ({ phase: "main", code }));
    for (let i = catches.length - 1; i >= 0; i -= 1) {
      const place = Math.floor(((i + random()) / catches.length) * (main.length + 1));
      trials.splice(place, 0, { phase: "catch", code: catches[i] });
    }
    return trials;
  }

  function planTrials(participant) {
    const random = generator(hash(`${E.seed}|${participant}`));
    const list = listOf(participant);
    const practice = shuffled(E.practice, random).map((one, i) => ({
      ...one, phase: "practice", block: 0,
      timing: E.slow && i < Math.floor(E.practice.length / 2) ? E.slow : E.timing,
    }));
    const screening = shuffled(E.screening, random).map((one) => ({ ...one, phase: "screening", block: 0 }));
    const main = withCatches(shuffled(E.lists.map((row) => row[list]), random), shuffled(E.catch, random), random)
      .map((one, i) => ({ ...one, block: 1 + Math.floor(i / E.block_length) }));
    return [...practice, ...screening, ...main].map((one, index) => ({
      timing: E.timing, ...one, index, mask: E.masks[Math.floor(random() * E.masks.length)],
    }));
  }

  // ---------------------------------------------------------------------------------------------- what is kept

  const store = window.answerStore(E ? E.version : "", COLUMNS, hash);

  function keep() {
    kept = store.keep(state); // with what another page has added since
    if (kept) warned = false;
    mine();
  }

  // The first trial that has no answer yet.
  const pending = (trials) => trials.find((trial) => !state.rows.some((row) => row[1] === trial.index + 1));

  // Another page goes on: nothing more is shown or answered here.
  function stopHere() {
    if (gone) return;
    gone = true;
    if (current) current.abort();
    const unsaved = state.rows.length && !kept;
    display("This goes on in another tab", "The experiment was opened in another tab or window of this browser and " +
      "goes on there. You can close this one.", ["Load again", ...(unsaved ? ["Save data so far"] : [])],
    (pressed) => (pressed === 0 ? location.reload() : download()));
  }

  window.addEventListener("beforeunload", (event) => {
    if (state && !state.saved && state.rows.length && !kept) event.preventDefault();
  });

  window.addEventListener("pageshow", (event) => { // back from the browser's memory: others may have gone on since
    if (event.persisted) location.reload();
  });

  // --------------------------------------------------------------------------------------------------- screens

  function show(name) {
    if (gone && name !== "message") return;
    for (const one of sections) at(one).hidden = one !== name;
    document.body.classList.toggle("trial", name === "stimulus" || name === "response");
  }

  function paragraphs(element, text) {
    element.replaceChildren(...text.split(/\n\s*\n/).map((one) => {
      const paragraph = document.createElement("p");
      paragraph.textContent = one.trim();
      return paragraph;
    }));
  }

  // Show a text and its buttons; `pressed` gets the place of the button that was pressed.
  function display(title, text, labels, pressed) {
    at("message-title").textContent = title;
    paragraphs(at("message-text"), text);
    at("message-buttons").replaceChildren(...labels.map((label, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = i ? "quiet" : "main";
      button.textContent = label;
      button.setAttribute("aria-describedby", "message-title message-text");
      button.addEventListener("click", () => pressed(i));
      return button;
    }));
    show("message");
    (at("message-buttons").firstChild || at("message-title")).focus();
  }

  // Show a text and its buttons; resolves to the place of the button that was pressed, and never on a page that stopped.
  function ask(title, text, ...labels) {
    return new Promise((resolve) => { if (!gone) display(title, text, labels, resolve); });
  }

  document.addEventListener("keydown", (event) => { // a key held down answers one question, not the next ones
    if (event.repeat && (event.key === "Enter" || event.key === " ")) event.preventDefault();
  });

  function welcome(given) {
    return new Promise((resolve) => {
      at("welcome-title").textContent = E.title;
      paragraphs(at("consent-text"), E.consent);
      at("participant").value = given;
      at("participant-row").hidden = given !== "" && validName(given);
      at("participant-error").textContent = "";
      show("welcome");
      at("welcome-form").onsubmit = (event) => {
        event.preventDefault();
        const name = at("participant").value.trim();
        const agreed = at("consent").checked;
        const named = validName(name);
        at("participant-error").textContent = named ? "" : "Please enter a code of letters, digits, - and _.";
        at("consent-error").textContent = agreed ? "" : "Please tick the box to take part.";
        at("participant").setAttribute("aria-invalid", String(!named));
        at("consent").setAttribute("aria-invalid", String(!agreed));
        if (named && agreed) resolve(name);
        else at(named ? "consent" : "participant").focus();
      };
    });
  }

  const validName = (name) => /^[A-Za-z0-9_-]{1,40}$/.test(name);

  // -------------------------------------------------------------------------------------------- before the start

  async function loadOne(code) {
    const image = new Image();
    image.src = `images/${code}.png`;
    await image.decode();
    images.set(code, image);
  }

  async function load(trials) {
    const wanted = [...new Set(trials.flatMap((one) => [one.code, one.mask]))].filter((code) => !images.has(code));
    const failed = [];
    const waiting = wanted.slice();
    let done = 0;
    at("loading-text").textContent = `Loading ${wanted.length} images …`;
    at("loading-bar").max = Math.max(1, wanted.length);
    show("loading");
    async function worker() {
      while (waiting.length) {
        const code = waiting.pop();
        await loadOne(code).catch(() => failed.push(code));
        done += 1;
        at("loading-bar").value = done;
      }
    }
    await Promise.all(Array.from({ length: 6 }, worker));
    if (!failed.length) return;
    const names = failed.slice(0, 5).map((code) => `${code}.png`).join(", ");
    const more = failed.length > 5 ? ` … (${failed.length} in all)` : "";
    await ask("Some images did not load", `Missing or broken: ${names}${more}.\n\n` +
      "Check your connection and try again. If this stays, please tell the people who sent you here.", "Try again");
    await load(trials);
  }

  function measureFrame(count = 40) {
    return new Promise((resolve) => {
      const times = [];
      function tick(now) {
        times.push(now);
        if (times.length <= count) { requestAnimationFrame(tick); return; }
        const gaps = times.slice(1).map((one, i) => one - times[i]).sort((a, b) => a - b);
        resolve(gaps[Math.floor(gaps.length / 2)]);
      }
      requestAnimationFrame(tick);
    });
  }

  // --------------------------------------------------------------------------------------------------- one trial

  const canvas = at("canvas");
  const context = canvas.getContext("2d");

  function drawFixation() {
    const { width, height } = canvas;
    const arm = Math.round(Math.min(width, height) / 14);
    context.fillStyle = "#808080";
    context.fillRect(0, 0, width, height);
    context.fillStyle = "#000000";
    context.fillRect(width / 2 - arm, height / 2 - 2, 2 * arm, 4);
    context.fillRect(width / 2 - 2, height / 2 - arm, 4, 2 * arm);
    show("stimulus");
  }

  const drawImage = (code) => context.drawImage(images.get(code), 0, 0, canvas.width, canvas.height);

  // Draw each step at a frame, and the next one at the first frame that is nearer to its planned time than the one
  // after. Times are the frames' own time stamps. The last step has no end. Resolves to null when interrupted.
  function present(steps, signal) {
    return new Promise((resolve) => {
      let step = -1, onset = 0, last = 0, dropped = 0;
      const lasted = [];
      signal.addEventListener("abort", () => resolve(null), { once: true });
      function tick(now) {
        if (signal.aborted) return;
        if (last) dropped += Math.max(0, Math.round((now - last) / frame) - 1);
        last = now;
        if (step < 0 || now - onset >= steps[step].ms - frame / 2) {
          if (step >= 0) lasted.push(now - onset);
          step += 1;
          onset = now;
          steps[step].draw();
          if (step === steps.length - 1) { resolve({ lasted, dropped, onset }); return; }
        }
        requestAnimationFrame(tick);
      }
      requestAnimationFrame(tick);
    });
  }

  let answer = null; // takes (place of the answer, time stamp) while an answer is awaited

  function buildGrid() {
    at("grid").replaceChildren(...E.categories.map((name, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.category = name;
      button.setAttribute("aria-label", name);
      button.setAttribute("aria-keyshortcuts", KEYS[i]);
      button.innerHTML = `<kbd aria-hidden="true">${KEYS[i]}</kbd><svg aria-hidden="true" focusable="false">` +
        `<use href="#icon-${name}"></use></svg><span class="name" aria-hidden="true">${name}</span>`;
      button.addEventListener("click", (event) => answer && answer(i, event.timeStamp));
      return button;
    }));
  }

  const MOVES = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -4, ArrowDown: 4 };

  document.addEventListener("keydown", (event) => {
    if (!answer || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
    const buttons = [...at("grid").children];
    if (event.key in MOVES) {
      const here = buttons.indexOf(document.activeElement);
      const there = here + MOVES[event.key];
      const sideways = Math.abs(MOVES[event.key]) === 1;
      const inside = there >= 0 && there < 16 && (!sideways || Math.floor(there / 4) === Math.floor(here / 4));
      if (here < 0) buttons[0].focus();
      else if (inside) buttons[there].focus();
      event.preventDefault();
      return;
    }
    const byKey = event.key.length === 1 ? KEYS.indexOf(event.key.toLowerCase()) : -1;
    const place = byKey >= 0 ? byKey : CODES.indexOf(/^[\x20-\x7e]$/.test(event.key) ? "" : event.code);
    if (place >= 0) {
      event.preventDefault();
      answer(place, event.timeStamp);
    }
  });

  function showGrid(trial, total) {
    at("prompt").textContent = "What did you see?";
    at("prompt").className = "";
    at("progress-text").textContent = `Image ${trial.index + 1} of ${total}${kept ? "" : " – not kept: save your data"}`;
    at("next").hidden = true;
    at("save").hidden = false;
    for (const button of at("grid").children) {
      button.classList.remove("good", "bad");
      button.removeAttribute("aria-disabled");
    }
    show("response");
    at("grid").focus({ preventScroll: true });
  }

  function awaitAnswer(onset, signal) {
    return new Promise((resolve) => {
      answer = (place, time) => {
        if (time < onset) return; // pressed before the grid was there
        answer = null;
        for (const button of at("grid").children) button.setAttribute("aria-disabled", "true");
        resolve({ response: E.categories[place], rt: time - onset });
      };
      signal.addEventListener("abort", () => { answer = null; resolve(null); }, { once: true });
    });
  }

  // Practice and screening only: which category the check number of an image stands for.
  const truthOf = (trial) => E.categories.find((name) => hash(`${E.salt}|${trial.code}|${name}`) === trial.check);

  function feedback(trial, response) {
    const truth = truthOf(trial);
    const right = response === truth;
    at("prompt").textContent = right ? `\u2713 Correct: ${truth}` : `\u2717 It was: ${truth}`;
    at("prompt").className = right ? "good" : "bad";
    for (const button of at("grid").children) {
      if (button.dataset.category === truth) button.classList.add("good");
      else if (button.dataset.category === response) button.classList.add("bad");
    }
    at("save").hidden = true;
    at("next").hidden = false;
    at("next").focus();
    return new Promise((resolve) => { at("next").onclick = () => resolve(); });
  }

  async function attempt(trial, total, signal) {
    await Promise.all([images.get(trial.code).decode(), images.get(trial.mask).decode()]); // decoded again if let go
    const shown = await present([
      { ms: trial.timing[0], draw: drawFixation },
      { ms: trial.timing[1], draw: () => drawImage(trial.code) },
      { ms: trial.timing[2], draw: () => drawImage(trial.mask) },
      { draw: () => showGrid(trial, total) },
    ], signal);
    if (!shown) return null;
    const given = await awaitAnswer(shown.onset, signal);
    return given && { ...shown, ...given };
  }

  // Run a trial until it was seen without the page being hidden; each start is counted before it begins, so that a
  // reload counts, too.
  async function runTrial(trial, total) {
    for (;;) {
      if (gone) await new Promise(() => {});
      if (document.hidden) await ask("Paused", "Press Continue when you are ready.", "Continue");
      state.starts[trial.index] = (state.starts[trial.index] || 0) + 1;
      keep();
      if (!kept && !warned) await warnOfFullStorage();
      const stop = new AbortController();
      current = stop;
      const hidden = () => { if (document.hidden) stop.abort(); };
      document.addEventListener("visibilitychange", hidden);
      const done = await attempt(trial, total, stop.signal);
      document.removeEventListener("visibilitychange", hidden);
      if (done) return done;
      await ask("Paused", "The page was hidden, so the last image is shown once more.\n\n" +
        "Press Continue when you are ready.", "Continue");
    }
  }

  function record(trial, done) {
    const truth = trial.check === undefined ? "" : truthOf(trial);
    const correct = truth === "" ? "" : Number(truth === done.response);
    state.rows.push([state.participant, trial.index + 1, trial.block, trial.phase, trial.code, "", "", "", truth,
      done.response, done.rt.toFixed(1), correct, ...done.lasted.map((one) => one.toFixed(2)), done.dropped,
      (1000 / frame).toFixed(2), state.starts[trial.index] - 1, hash(`${E.seed}|${state.participant}`), E.version,
      navigator.userAgent]);
    keep();
  }

  // ------------------------------------------------------------------------------------------------ saving data

  function csv() {
    const cell = (value) => (/[",\r\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : value);
    return [COLUMNS, ...state.rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
  }

  function saveFile(text, name, type) {
    const link = document.createElement("a");
    const address = URL.createObjectURL(new Blob([text], { type }));
    link.href = address;
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  }

  function download() {
    saveFile(csv(), `${state.participant}_${E.version}.csv`, "text/csv");
    if (state.finished) state.saved = true;
  }

  const wait = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

  // The server confirms by replying with the text as it stored it: a page that answers every address (the log-in of a
  // network, a proxy) cannot. text/plain needs no permission to ask for permission (no preflight).
  async function send() {
    let reached = false;
    const body = csv();
    for (let i = 0; i < E.post_tries; i += 1) {
      if (i) await wait(E.post_wait_ms * 2 ** (i - 1));
      const stop = new AbortController();
      const timer = setTimeout(() => stop.abort(), 20000);
      try {
        const reply = await fetch(E.post_url, { method: "POST", body, signal: stop.signal,
          headers: { "Content-Type": "text/plain;charset=utf-8" } });
        reached = true;
        if (reply.ok && (await reply.text()).trim() === body.trim()) return "sent";
      } catch { /* no connection: try again */ } finally {
        clearTimeout(timer);
      }
    }
    return reached ? "unconfirmed" : "unreached";
  }

  async function hand() { // hand the data over: to the server if there is one, else as a file
    if (!E.post_url) {
      download();
      return "Your answers were saved as a file in your downloads folder. Please send it to the people who gave you " +
        "this page.";
    }
    if (state.sent) return "Your answers were sent. You can close this page.";
    at("loading-text").textContent = "Sending your answers …";
    at("loading-title").textContent = "Sending";
    at("loading-bar").hidden = true;
    show("loading");
    const result = await send();
    state.sent = result === "sent";
    state.saved = state.sent;
    keep();
    if (state.sent) return "Your answers were sent. You can close this page.";
    const why = result === "unreached" ? "Your answers could not be sent."
      : "Your answers could not be sent: something answered, but did not confirm that it stored them. If this network " +
        "asks you to log in, please do so first.";
    return `${why} ${kept ? "They are kept in this browser: try again now or later, by opening this page again, or " +
      "save them as a file." : "Please try again, or save them as a file."}`;
  }

  async function finish() {
    state.finished = true;
    keep();
    const title = state.failed ? "Thank you – the experiment ends here" : "Thank you – that was the last image";
    let told = state.sent ? "Your answers were sent. You can close this page." : await hand();
    for (;;) {
      const labels = [...(E.post_url && !state.sent ? ["Try again"] : []), ...(state.rows.length ? ["Save data"] : [])];
      const pressed = labels[await ask(title, told, ...labels)];
      if (pressed === "Try again") told = await hand();
      else download();
    }
  }

  // ------------------------------------------------------------------------------------------------ the session

  const HOW = "Look at the cross. An image flashes for a moment, then a pattern. Then choose what you saw: one of 16 " +
    "answers, by mouse, by touch, or by keyboard (arrow keys and Enter, or the key shown on the answer). " +
    "If you are not sure, guess.";

  async function introduce(trial, trials) {
    const count = (phase) => trials.filter((one) => one.phase === phase).length;
    const first = trial.index === 0 || trials[trial.index - 1].phase !== trial.phase;
    const before = trials[trial.index - 1];
    if (trial.phase === "practice" && first) {
      await ask("Practice", `${HOW}\n\nYou are told whether you were right. ${count("practice")} images. ` +
        "Images flash: please do not take part if flashing images are bad for you.", "Start practice");
    } else if (trial.phase === "screening" && first) {
      await ask("Now without being told", `The next ${count("screening")} images are without feedback. ` +
        "They tell whether the task works on your screen.", "Continue");
    } else if (trial.block > 1 && before.block < trial.block) {
      const last = trials[trials.length - 1].block;
      await pauseBetween(`Part ${trial.block - 1} of ${last} is done. Rest as long as you like.`);
    } else if (trial.block === 1 && before.block === 0) {
      await ask("The main part", `${trials.length - trial.index} images follow, without feedback. Some are very hard ` +
        "to recognize: choose what comes nearest.", "Start");
    }
  }

  async function pauseBetween(text) {
    while (await ask("A break", text, "Continue", "Save data so far") === 1) download();
  }

  async function warnOfFullStorage() {
    warned = true;
    const text = "This browser has no more room to keep your answers. None is lost as long as this page stays open: " +
      "please do not close or reload it until the end. To be safe, save your data as a file now.";
    while (await ask("Your answers are no longer kept", text, "Continue", "Save data so far") === 1) download();
  }

  function screenedOut(trials) {
    const rows = state.rows.filter((row) => row[3] === "screening");
    const planned = trials.filter((one) => one.phase === "screening").length;
    if (rows.length < planned) return false; // also when there is no screening: 0 of 0, and a pass mark of 0
    return rows.filter((row) => row[11] === 1).length < E.pass_mark;
  }

  async function session(resumed) {
    const trials = planTrials(state.participant);
    await load(trials.filter((trial) => !state.rows.some((row) => row[1] === trial.index + 1)));
    frame = await measureFrame();
    state.failed = state.failed || screenedOut(trials);
    let greet = resumed;
    for (let trial = pending(trials); trial && !state.failed; trial = pending(trials)) {
      if (greet) await ask("Welcome back", `You go on at image ${trial.index + 1} of ${trials.length}.`, "Continue");
      greet = false;
      await introduce(trial, trials);
      const done = await runTrial(trial, trials.length);
      record(trial, done);
      if (trial.phase === "practice") await feedback(trial, done.response);
      if (trial.phase === "screening" && screenedOut(trials)) state.failed = true;
    }
  }

  async function whoIsIt() {
    const inAddress = new URLSearchParams(location.search).get("participant") || "";
    const last = inAddress ? null : store.last();
    const before = last && store.read(last);
    if (before && (before.damaged || !(before.state.finished && (before.state.sent || !E.post_url)))) {
      const same = await ask("Welcome back", `Participant ${last} has begun here and is not finished.`,
        `Go on as ${last}`, "I am someone else");
      if (same === 0) return last;
    }
    if (validName(inAddress) && store.read(inAddress)) return inAddress;
    return welcome(inAddress);
  }

  // Go on only where no other page of this browser does, so that no image is shown in both.
  async function haveAlone(participant) {
    const text = "This experiment is open in another tab or window of this browser. Please go on there and close this " +
      "one. If you cannot find it, go on here: the other one then stops.";
    while (store.openElsewhere(participant)) {
      if (await ask("Already open", text, "Try again", "Go on here instead") === 1) break;
    }
    mine = store.claim(participant, stopHere);
  }

  // Tell that a part of what was kept cannot be read, and give it as a file; an image that may have been seen counts.
  async function tellDamage(remains, trials) {
    const rows = remains.state.rows;
    const text = `A part of what this browser kept of ${remains.state.participant} cannot be read any more. ` +
      `${rows.length} answer${rows.length === 1 ? "" : "s"} can be read and will be used; images without an answer are ` +
      "shown, perhaps once more.\n\nPlease save the damaged data as a file, too, and give it to the people who gave " +
      "you this page.";
    let safe = remains.copied; // whether the damaged data outlive the next answer
    for (;;) {
      const labels = [...(safe ? ["Continue"] : []), "Save damaged data"];
      if (labels[await ask("Some answers are damaged", text, ...labels)] === "Continue") break;
      saveFile(remains.text, `${remains.state.participant}_damaged.txt`, "text/plain");
      safe = true;
    }
    const starts = remains.state.starts || {};
    for (const { index } of trials) starts[index] = Math.max(starts[index] || 0, 1);
    return { ...remains.state, starts };
  }

  async function start() {
    if (!E) {
      await ask("This page is not whole", "The file experiment.js is missing or broken.");
      return;
    }
    document.title = E.title;
    [canvas.width, canvas.height] = E.size;
    buildGrid();
    at("save").addEventListener("click", download);
    const participant = await whoIsIt();
    await haveAlone(participant);
    const before = store.read(participant);
    state = before ? before.state : { participant, rows: [], starts: {}, failed: false, finished: false, sent: false };
    if (before && before.damaged) state = await tellDamage(before, planTrials(participant));
    keep();
    if (!kept) {
      warned = true;
      await ask("This browser keeps nothing", "If you close or reload this page, your answers are lost. Please stay on " +
        "it until the end, or save your data in between.", "Continue");
    }
    if (!state.finished) await session(state.rows.length > 0);
    await finish();
  }

  start();
})();
