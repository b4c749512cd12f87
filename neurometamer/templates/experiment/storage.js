"use strict";
// Keeps the answers of one participant in this browser (localStorage). Two rules: what is kept never becomes less, and
// only one page writes at a time. Every row carries a check number, so that a damaged text still gives its good rows.
window.answerStore = (version, columns, hash) => {
  const [TRIAL, REPEATED] = [columns.indexOf("trial"), columns.indexOf("repeated")];
  const BEAT_MS = 1000; // the page that has the experiment says so this often; browsers slow hidden pages to this
  const STALE_MS = 3500; // a page that has not said so for longer was closed or has crashed
  const page = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
  const nameOf = (what) => `neurometamer:${version}:${what}`;
  const openName = (participant) => nameOf(`${participant}:open`);
  let written = null; // the text that this page kept last
  let beat = 0; // the timer of the page that has the experiment

  function get(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // the browser gives no storage
    }
  }

  function put(name, text) {
    try {
      localStorage.setItem(name, text);
      return true;
    } catch {
      return false; // no storage, or it is full
    }
  }

  function parsed(text) {
    try {
      return JSON.parse(text);
    } catch {
      return null;
    }
  }

  // ------------------------------------------------------------------------------------------- the kept text

  const checkOf = (value) => hash(JSON.stringify(value));

  // JSON with one row a line, so that a text that was cut off can be read line by line.
  function encode(state) {
    const rows = state.sent ? [] : state.rows; // the server has confirmed that it has them
    const head = { participant: state.participant, count: rows.length, starts: state.starts, failed: state.failed,
      finished: state.finished, sent: state.sent };
    const lines = rows.map((row) => JSON.stringify([...row, checkOf(row)]));
    return `{"head":${JSON.stringify(head)},"check":${checkOf(head)},"rows":[\n${lines.join(",\n")}\n]}`;
  }

  function decodeRow(line, participant) {
    const cells = parsed(line.replace(/,$/, ""));
    if (!Array.isArray(cells) || cells.length !== columns.length + 1 || cells[0] !== participant) return null;
    const row = cells.slice(0, -1);
    return checkOf(row) === cells[columns.length] ? row : null;
  }

  // The state in a kept text, and whether anything in it is lost.
  function decode(text, participant) {
    const lines = text.split("\n");
    const first = parsed(`${lines[0]}]}`);
    const whole = first && first.head && first.head.participant === participant && checkOf(first.head) === first.check;
    const rows = lines.slice(1).map((line) => decodeRow(line, participant)).filter((row) => row !== null);
    const rest = whole ? first.head : { starts: null, failed: false, finished: false, sent: false };
    const { starts, failed, finished, sent } = rest;
    const damaged = !whole || rows.length !== first.head.count || parsed(text) === null;
    return { state: { participant, rows, starts, failed, finished, sent }, damaged, text };
  }

  // Rows of both. Two different answers to one trial both stay; the later one says that it was a repetition.
  function merged(kept, own) {
    const rows = kept.slice();
    for (const row of own) {
      const same = rows.filter((other) => other[TRIAL] === row[TRIAL]);
      if (same.some((other) => checkOf(other) === checkOf(row))) continue;
      const repeated = Math.max(row[REPEATED], ...same.map((other) => other[REPEATED] + 1));
      rows.push(row.map((cell, i) => (i === REPEATED ? repeated : cell)));
    }
    return rows.sort((a, b) => a[TRIAL] - b[TRIAL]);
  }

  // Take in what another page has kept since; what it added was not sent.
  function takeIn(state, text) {
    const other = decode(text, state.participant).state;
    const before = state.rows.length;
    state.rows = merged(other.rows, state.rows);
    state.sent = state.sent && state.rows.length === before;
    state.failed = state.failed || other.failed;
    state.finished = state.finished || other.finished;
    for (const [index, count] of Object.entries(other.starts || {})) {
      state.starts[index] = Math.max(state.starts[index] || 0, count);
    }
  }

  // Whether the browser keeps the state now.
  function keep(state) {
    const name = nameOf(state.participant);
    const text = get(name);
    if (text !== null && text !== written) takeIn(state, text);
    const next = encode(state);
    if (!put(name, next)) return false;
    written = next;
    put(nameOf("last"), state.participant);
    return true;
  }

  function read(participant) {
    const text = get(nameOf(participant));
    if (text === null) return null;
    const kept = decode(text, participant);
    // a copy of a damaged text is never written over; where there is no room for one, the page has it saved first
    kept.copied = !kept.damaged || put(nameOf(`${participant}:damaged:${hash(text)}`), text);
    written = text;
    return kept;
  }

  // ----------------------------------------------------------------------------------------- one page at a time

  function holder(participant) {
    const other = parsed(get(openName(participant)) || "null");
    return other && typeof other.page === "string" ? other : null;
  }

  function openElsewhere(participant) {
    const other = holder(participant);
    return other !== null && other.page !== page && Date.now() - other.time < STALE_MS;
  }

  // Have the experiment; `lost` is called once when another page has taken it.
  function claim(participant, lost) {
    const say = () => put(openName(participant), JSON.stringify({ page, time: Date.now() }));
    function look() {
      const other = holder(participant);
      if (other === null || other.page === page) return true;
      clearInterval(beat);
      beat = 0;
      lost();
      return false;
    }
    say();
    beat = setInterval(() => { if (look()) say(); }, BEAT_MS);
    window.addEventListener("storage", () => { if (beat) look(); });
    window.addEventListener("pagehide", () => {
      if (!beat || (holder(participant) || {}).page !== page) return;
      clearInterval(beat);
      localStorage.removeItem(openName(participant));
    });
    return look;
  }

  return { claim, keep, last: () => get(nameOf("last")), openElsewhere, read };
};
