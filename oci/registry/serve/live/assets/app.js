"use strict";

// Shows the open uploads and the requests as they happen. All text goes through textContent.

const cards = new Map(); // session: what is on the page of it
const keepOver = 10;     // cards of uploads that are over
const keepLog = 200;     // lines of the log
const keepSteps = 50;    // lines of a card

function element(name, className, text) {
  const e = document.createElement(name);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
  return (i ? n.toFixed(1) : n) + " " + units[i];
}

function card(id, repo) {
  let c = cards.get(id);
  if (c) return c;
  const box = document.getElementById("uploads");
  if (!cards.size) box.replaceChildren();
  c = { root: element("div", "upload"), line: element("p"), steps: element("ol", "steps"), repo: repo, open: false, samples: [] };
  const head = element("p", "", repo + " ");
  head.append(element("span", "dim id", id));
  c.root.append(head, c.line, c.steps);
  box.prepend(c.root);
  cards.set(id, c);
  return c;
}

// rate is the speed over the last seconds, from what the page has seen.
function rate(c, offset) {
  const now = performance.now();
  c.samples.push([now, offset]);
  while (c.samples.length > 2 && now - c.samples[0][0] > 3000) c.samples.shift();
  const [t, o] = c.samples[0];
  return now > t && offset > o ? (offset - o) * 1000 / (now - t) : 0;
}

function showUploads(uploads) {
  for (const c of cards.values()) c.open = false;
  for (const u of uploads.reverse()) { // the latest last, since a new card goes to the top
    const c = card(u.id, u.repo);
    c.open = true;
    if (u.receiving && !c.receiving) c.root.parentNode.prepend(c.root);
    c.receiving = u.receiving;
    const speed = rate(c, u.offset);
    c.line.textContent = u.offset + " bytes" + (u.offset < 1024 ? "" : " (" + bytes(u.offset) + ")") +
      (u.receiving ? ", receiving" : ", waiting for the client") + (u.receiving && speed ? ", " + bytes(speed) + "/s" : "");
  }
  const over = [];
  for (const [id, c] of cards) {
    c.root.classList.toggle("over", !c.open);
    if (c.open) continue;
    over.push(id);
    if (!c.ended) c.line.textContent = ""; // what it waited for is over, too
  }
  for (const id of over.slice(0, Math.max(0, over.length - keepOver))) {
    cards.get(id).root.remove();
    cards.delete(id);
  }
}

// verdict is what is to be said of a request, on a line of its own.
function verdict(text) {
  const who = /^broken by the (client|registry)/.exec(text);
  return element("span", "verdict " + (who ? who[1] : "tolerated"), text);
}

function showEvent(e) {
  const time = new Date(e.time).toLocaleTimeString();
  const line = element("li", e.failed ? "bad" : "", time + " " + e.text);
  if (e.verdict) line.append(verdict(e.verdict));
  if (e.session) {
    const c = card(e.session, e.repo);
    c.steps.append(line);
    while (c.steps.children.length > keepSteps) c.steps.firstChild.remove();
    c.steps.scrollTop = c.steps.scrollHeight;
    if (/^(finished|cancelled|expired)/.test(e.text)) {
      c.line.textContent = e.text;
      c.ended = true;
    }
  }
  const log = document.getElementById("log");
  const entry = element("li", e.failed ? "bad" : "", time + " " + (e.session ? e.repo + " " + e.session.slice(0, 8) + " " : "") + e.text);
  if (e.verdict) entry.append(verdict(e.verdict));
  log.prepend(entry);
  while (log.children.length > keepLog) log.lastChild.remove();
}

// showSummary says how all of it went: the cause of the first problem, then the numbers.
function showSummary(lines) {
  const box = document.getElementById("summary");
  if (box) box.replaceChildren(...lines.map((text) => element("p", "line" + (text.startsWith("cause:") ? " bad" : ""), text)));
}

const link = document.getElementById("link");
const source = new EventSource("/-/events");
source.onopen = () => { link.textContent = "live"; link.className = "badge good"; };
source.onerror = () => { link.textContent = "not live"; link.className = "badge"; };
source.onmessage = (m) => {
  const { uploads, events, summary } = JSON.parse(m.data);
  for (const e of events || []) showEvent(e);
  showUploads(uploads || []);
  if (summary) showSummary(summary);
};
