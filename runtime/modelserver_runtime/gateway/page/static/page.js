// Keeps the page up to date, and talks to models. What is shown of the cluster is made by the
// gateway as HTML; only what a person types, and what a model answers, is made here, as text.

const KEY = "modelserver-key";
const EVERY_MS = 2000;
const SLOWEST_MS = 30000;

const find = (id) => document.getElementById(id);
const needsKey = document.body.dataset.needsKey === "true";
const key = () => sessionStorage.getItem(KEY) ?? "";

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

// -- asking the gateway ---------------------------------------------------------------------------

class Refusal extends Error {
  constructor(status, message, retrySeconds) {
    super(message);
    this.status = status;
    this.retrySeconds = retrySeconds;
  }
}

async function ask(path, { body, ...options } = {}) {
  const headers = {};
  if (key()) headers.authorization = `Bearer ${key()}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(path, {
    ...options,
    method: body === undefined ? options.method ?? "GET" : "POST",
    body: body === undefined ? undefined : JSON.stringify(body),
    headers,
    cache: "no-store",
    credentials: "omit",
  });
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  const content = await answer.json().catch(() => ({}));
  const message = messageOf(content) || `The gateway answered with status ${answer.status}`;
  return new Refusal(answer.status, message, Number(answer.headers.get("retry-after")) || 0);
}

function messageOf(content) {
  return typeof content.error === "string" ? content.error : content.error?.message;
}

// -- what is new takes the place of what was there, and nothing else moves --------------------------

const keyOf = (node) => node.dataset?.key;

function update(id, fresh) {
  const wanted = fresh.getElementById(id);
  if (wanted) morph(find(id), wanted);
}

function morph(present, wanted) {
  if (present.nodeName !== wanted.nodeName) {
    present.replaceWith(wanted);
  } else if (present.nodeType !== Node.ELEMENT_NODE) {
    if (present.data !== wanted.data) present.data = wanted.data;
  } else {
    morphAttributes(present, wanted);
    morphChildren(present, wanted);
  }
}

function morphAttributes(present, wanted) {
  for (const { name } of [...present.attributes]) {
    // What a person has opened stays open.
    if (!wanted.hasAttribute(name) && name !== "open") present.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (present.getAttribute(name) !== value) present.setAttribute(name, value);
  }
}

function morphChildren(present, wanted) {
  const keyed = new Map();
  for (const child of present.children) if (keyOf(child)) keyed.set(keyOf(child), child);
  let next = present.firstChild;
  for (const fresh of [...wanted.childNodes]) {
    const known = keyOf(fresh) ? keyed.get(keyOf(fresh)) : next;
    if (!known || keyOf(known) !== keyOf(fresh)) {
      present.insertBefore(fresh, next);
      continue;
    }
    if (known === next) next = next.nextSibling;
    else present.insertBefore(known, next);
    morph(known, fresh);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

// -- the models, live -----------------------------------------------------------------------------

let timer = 0;
let looking = null;
let failures = 0;
let stateWanted = "";
let isAdmin = false;

function say(state, text) {
  const live = find("live");
  if (live.textContent === text) return;
  live.dataset.live = state;
  live.textContent = text;
}

async function look() {
  clearTimeout(timer);
  looking?.abort();
  looking = new AbortController();
  const { signal } = looking;
  let wait = EVERY_MS;
  try {
    const query = new URLSearchParams({ q: find("search").value, state: stateWanted });
    const answer = await ask(`page/overview?${query}`, { signal });
    show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    failures = 0;
    say("live", "Live");
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401 || error.status === 403) return leave(error.message);
    failures += 1;
    wait = Math.max((error.retrySeconds ?? 0) * 1000, Math.min(EVERY_MS * 2 ** failures, SLOWEST_MS));
    say("lost", error.status === 429 ? "Too many requests: waiting" : "Connection lost: trying again");
  }
  if (!document.hidden) timer = setTimeout(look, wait);
}

function show(fresh) {
  const before = states();
  for (const id of ["summary", "models"]) update(id, fresh);
  showChoices(fresh);
  announce(before, states());
  const mayAdminister = find("summary").dataset.admin === "true";
  if (mayAdminister && !isAdmin) lookAtKeys();
  isAdmin = mayAdminister;
  find("admin").hidden = !isAdmin;
}

function states() {
  const cards = document.querySelectorAll("#models [data-kind]");
  return new Map([...cards].map((card) => [card.dataset.key, card.dataset]).map(([id, data]) => [id, { ...data }]));
}

function announce(before, after) {
  const changed = [...after].filter(([id, { kind }]) => before.has(id) && before.get(id).kind !== kind);
  if (changed.length) {
    find("news").textContent = changed.map(([, { name, kind }]) => `${name} is ${kind}`).join(", ");
  }
}

function pauseOrGoOn() {
  if (find("inside").hidden) return;
  if (document.hidden) {
    clearTimeout(timer);
    looking?.abort();
    say("waiting", "Paused");
  } else {
    look();
  }
}

// -- the key --------------------------------------------------------------------------------------

const jump = document.querySelector(".jump");

function enter() {
  find("inside").hidden = jump.hidden = false;
  find("login-error").textContent = "";
  find("forget").hidden = !key();
  showLogin(false);
  look();
}

function leave(message = "") {
  clearTimeout(timer);
  looking?.abort();
  sessionStorage.removeItem(KEY);
  isAdmin = false;
  find("admin").hidden = true;
  find("forget").hidden = true;
  if (needsKey) {
    for (const id of ["summary", "models", "keys", "model"]) find(id).replaceChildren();
    find("inside").hidden = jump.hidden = true;
    say("waiting", "Not signed in");
    startAnew();
  }
  find("login-error").textContent = message;
  showLogin(true);
}

function showLogin(isShown) {
  find("login").hidden = !isShown;
  find("key-button").setAttribute("aria-expanded", String(isShown));
  if (isShown) find("key").focus();
}

find("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, find("key").value.trim());
  find("key").value = "";
  enter();
});
find("forget").addEventListener("click", () => {
  leave();
  if (!needsKey) enter();
});
find("key-button").addEventListener("click", () => showLogin(find("login").hidden));

// -- filters --------------------------------------------------------------------------------------

find("search").addEventListener("input", look);
find("summary").addEventListener("click", (event) => {
  const chosen = event.target.closest("[data-state]");
  if (!chosen) return;
  stateWanted = chosen.dataset.state;
  look();
});

// -- keys, for who may administer them --------------------------------------------------------------

async function changeKeys(path, body) {
  find("admin-error").textContent = "";
  try {
    const answer = await ask(path, body === undefined ? {} : { body });
    update("keys", new DOMParser().parseFromString(await answer.text(), "text/html"));
    return true;
  } catch (error) {
    find("admin-error").textContent = error.message;
    return false;
  }
}

const lookAtKeys = () => changeKeys("page/keys");
const numberOf = (id) => (find(id).value ? Number(find(id).value) : undefined);
const namesOf = (id) => find(id).value.split(",").map((name) => name.trim()).filter(Boolean);

find("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const days = numberOf("new-days");
  const isMade = await changeKeys("page/keys", {
    name: find("new-name").value,
    scopes: [...document.querySelectorAll("[name=scope]:checked")].map((box) => box.value),
    models: namesOf("new-models"),
    namespaces: namesOf("new-namespaces"),
    expires_in_seconds: days && days * 86400,
    limits: { requests_per_minute: numberOf("new-requests"), concurrent_requests: numberOf("new-concurrent") },
  });
  if (!isMade) return;
  event.target.reset();
  find("made-key").focus();
  find("made-key").select();
});

find("keys").addEventListener("click", async (event) => {
  if (event.target.id === "copy") {
    find("made-key").select();
    await navigator.clipboard?.writeText(find("made-key").value);
    event.target.textContent = "Copied";
  }
  if (event.target.matches(".revoke")) confirmRevoking(event.target.dataset);
});

function confirmRevoking({ id, name }) {
  const dialog = find("revoke");
  find("revoke-name").textContent = name;
  dialog.returnValue = "";
  dialog.onclose = () => dialog.returnValue === "revoke" && changeKeys(`page/keys/${encodeURIComponent(id)}/revoke`, {});
  dialog.showModal();
}

// -- the playground -------------------------------------------------------------------------------

const NOTES = {
  asleep: "It sleeps: your message wakes it, and waits.",
  starting: "It is starting: your message waits for it.",
  failed: "It cannot answer now: see what is wrong with it.",
  stopped: "It has no pods: somebody has to start it.",
};
const STAGES = {
  cold: "a pod is asked for",
  scheduling: "waiting for a place on a node",
  resolving: "finding out which files are meant",
  fetching: "fetching the files",
  loading: "loading the model",
  warming: "warming up",
};
const LABELS = { chat: "Message", embed: "Text", predict: "Text" };
const nothingSaid = find("talk-empty");
let turns = [];
let running = null;

function showChoices(fresh) {
  const wanted = fresh.getElementById("model-choices");
  const present = find("model");
  const names = (select) => [...select.options].map((one) => `${one.value} ${one.dataset.kind}`).join();
  // An open list stays as it is, as long as there is nothing new.
  if (!wanted || names(wanted) === names(present)) return;
  const before = present.value;
  morphChildren(present, wanted);
  const options = [...present.options];
  const chosen = options.find((one) => one.value === before) ?? options.find((one) => one.dataset.kind === "ready");
  present.selectedIndex = chosen ? options.indexOf(chosen) : 0;
  showChoice();
}

function choice() {
  return find("model").selectedOptions[0]?.dataset ?? {};
}

function showChoice() {
  const { play, kind } = choice();
  find("model-note").textContent = NOTES[kind] ?? "";
  find("question-label").textContent = LABELS[play] ?? "Message";
  find("other-field").hidden = play !== "embed";
  find("options").hidden = play !== "chat";
  find("send").disabled = !play || running !== null;
}

function startAnew() {
  running?.abort();
  turns = [];
  find("talk").replaceChildren(nothingSaid);
  find("pace").textContent = "";
}

function addTurn(role, content) {
  nothingSaid.remove();
  const turn = element("div", `turn ${role === "You" ? "user" : "model"}`);
  turn.append(element("b", "", role), content);
  find("talk").append(turn);
  find("talk").scrollTop = find("talk").scrollHeight;
  return turn;
}

async function send(event) {
  event.preventDefault();
  const { play } = choice();
  const text = find("question").value.trim();
  if (!text || !play || running) return;
  running = new AbortController();
  setBusy(true);
  addTurn("You", element("p", "", text));
  find("question").value = "";
  try {
    await { chat, embed, predict }[play](text, find("model").value, running.signal);
  } catch (error) {
    if (!running.signal.aborted) addTurn("Gateway", element("p", "", error.message)).classList.add("failed");
  } finally {
    running = null;
    setBusy(false);
  }
}

function setBusy(isBusy) {
  find("stop").disabled = !isBusy;
  find("talk").setAttribute("aria-busy", String(isBusy));
  find("waking").hidden = true;
  showChoice();
}

async function chat(text, model, signal) {
  turns.push({ role: "user", content: text });
  const system = find("system").value.trim();
  const messages = system ? [{ role: "system", content: system }, ...turns] : [...turns];
  const pace = new Pace();
  const body = {
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    temperature: numberOf("temperature"),
    max_tokens: numberOf("most-tokens"),
  };
  const shown = element("p");
  const turn = addTurn(model, shown);
  turn.classList.add("busy");
  turn.hidden = true;
  let said = "";
  try {
    const answer = await ask("v1/chat/completions", { body, signal });
    for await (const line of eventLines(answer.body)) {
      if (line.startsWith(":")) showWaking(line.slice(1).trim());
      if (!line.startsWith("data:") || line === "data: [DONE]") continue;
      const piece = JSON.parse(line.slice(5));
      if (piece.error) throw new Error(messageOf(piece));
      find("waking").hidden = true;
      turn.hidden = false;
      const added = piece.choices?.[0]?.delta?.content ?? "";
      said += added;
      if (added) shown.append(added);
      pace.note(added, piece.usage);
      find("talk").scrollTop = find("talk").scrollHeight;
    }
    pace.end();
  } finally {
    turn.classList.remove("busy");
    turn.hidden = !said;
    // A question without an answer is no part of the conversation.
    if (said) turns.push({ role: "assistant", content: said });
    else turns.pop();
  }
}

async function* eventLines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    const lines = (rest + (value ?? "")).split(/\r?\n/);
    rest = done ? "" : lines.pop();
    yield* lines;
    if (done) return;
  }
}

function showWaking(stage) {
  const percent = /(\d+(?:\.\d+)?) %/.exec(stage);
  const text = `Waking up: ${STAGES[stage] ?? stage}`;
  find("waking").hidden = false;
  // What is said again is read again to who listens.
  if (find("waking-text").textContent !== text) find("waking-text").textContent = text;
  if (percent) find("waking-bar").value = Number(percent[1]);
  else find("waking-bar").removeAttribute("value");
}

class Pace {
  constructor() {
    this.began = performance.now();
    this.first = 0;
    this.pieces = 0;
  }

  note(added, usage) {
    const now = performance.now();
    if (added) this.pieces += 1;
    if (added && !this.first) this.first = now;
    this.tokens = usage?.completion_tokens ?? this.tokens;
    this.last = now;
    this.show();
  }

  show() {
    if (!this.first) return;
    const tokens = this.tokens ?? this.pieces;
    const seconds = (this.last - this.first) / 1000;
    // The first token has come at the beginning of this time.
    const rate = tokens > 1 && seconds > 0 ? `${((tokens - 1) / seconds).toFixed(1)} tokens/s` : "";
    const wait = `first token after ${((this.first - this.began) / 1000).toFixed(2)} s`;
    find("pace").textContent = [`${tokens} tokens`, rate, wait].filter(Boolean).join(" · ");
  }

  end() {
    if (!this.first) find("pace").textContent = "The answer was empty.";
  }
}

async function embed(text, model, signal) {
  const other = find("other").value.trim();
  const input = other ? [text, other] : [text];
  const answer = await ask("v1/embeddings", { body: { model, input }, signal });
  const vectors = (await answer.json()).data.map((one) => one.embedding);
  const lines = vectors.map((one, index) => `${input[index]}\n[${one.slice(0, 6).map((x) => x.toFixed(4)).join(", ")}, …] (${one.length} numbers)`);
  if (other) lines.push(`Cosine similarity: ${cosine(...vectors).toFixed(4)}`);
  addTurn(model, element("pre", "", lines.join("\n\n")));
}

function cosine(one, other) {
  const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);
  return dot(one, other) / Math.sqrt(dot(one, one) * dot(other, other));
}

async function predict(text, model, signal) {
  const answer = await ask("predict", { body: { model, inputs: text }, signal });
  const { output } = await answer.json();
  const isLabels = Array.isArray(output) && output.every((one) => "label" in one && "score" in one);
  addTurn(model, isLabels ? labels(output) : element("pre", "", JSON.stringify(output, null, 2)));
}

function labels(output) {
  const list = element("ul", "labels");
  for (const { label, score } of output) {
    const line = element("li");
    const bar = element("progress");
    Object.assign(bar, { max: 1, value: score });
    bar.setAttribute("aria-label", label);
    line.append(element("span", "", label), element("b", "", `${(100 * score).toFixed(1)} %`), bar);
    list.append(line);
  }
  return list;
}

find("ask").addEventListener("submit", send);
find("stop").addEventListener("click", () => running?.abort());
find("anew").addEventListener("click", startAnew);
find("model").addEventListener("change", () => {
  startAnew();
  showChoice();
});
find("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    find("ask").requestSubmit();
  }
});

// -- the beginning --------------------------------------------------------------------------------

document.addEventListener("visibilitychange", pauseOrGoOn);
showChoices(document);
showChoice();
if (key() || !needsKey) enter();
else find("key").focus();
