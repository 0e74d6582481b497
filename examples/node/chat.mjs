// A client for trio-chat. What is in brackets, such as [S4], is a rule of docs/protocol.md.

import { randomUUID } from "node:crypto";
import { EventEmitter } from "node:events";
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, realpathSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import WebSocket from "ws";

const SUBPROTOCOL = "trio-chat.v1";
const LARGEST_FRAME = 1024 * 1024; // that the server may send [C6]
const UNDER_WAY = 50; // sends without an answer
const PATIENCE = 10_000; // ms: from the attempt to the welcome, and from a ping to any sign of life
const PROVEN = 10_000; // ms after the welcome: a connection that lasts longer was a good one, and the backoff starts again
const FOR_GOOD = new Set([1000, 1002, 1007, 1008, 1009, 4401, 4409, 4429]);
const NOT_STORED = new Set(["rate_limited", "store_full", "mailbox_full"]); // by this attempt; others that may be retried: unknown
const UNSETTLING = new Set(["too_large", "not_allowed"]); // say nothing about an earlier attempt [S5]
const LATER = (status) => status >= 500 || status === 408 || status === 429;
const longer = (seconds, times) => Math.max(seconds, Math.min(60, seconds * 2 ** times));
const NAME = /^[^\u0000-\u001f\u007f-\u009f]{1,128}$/u; // with u, a character outside the BMP counts as one

/** What has to outlive the process: the position, the outbox in order, what of it may be stored, and which entries are held. */
export class State {
  constructor(path, owner) {
    this.path = path;
    this.owner = owner; // (server, user, device): a position of another would acknowledge what was never seen
    this.log = null;
    this.after = 0;
    this.outbox = new Map(); // id → {id, to, text}
    this.tried = new Set(); // ids in the outbox with an attempt of unknown fate [S5]
    this.held = new Set(); // "from\0id"; a name has no control characters
    if (!path || !existsSync(path)) return;
    const saved = JSON.parse(readFileSync(path, "utf8"));
    if (JSON.stringify(saved.owner) !== JSON.stringify(owner)) {
      throw new Error(`${path} belongs to ${saved.owner.join(", ")}, not to ${owner.join(", ")}`);
    }
    this.log = saved.log;
    this.after = saved.after;
    this.outbox = new Map(saved.outbox.map((message) => [message.id, message]));
    this.tried = new Set(saved.tried ?? this.outbox.keys());
    this.held = new Set(saved.held);
  }

  /** Takes a message out of the outbox. */
  take(id) {
    const message = this.outbox.get(id);
    this.outbox.delete(id);
    this.tried.delete(id);
    return message;
  }

  /** All of it or nothing, and safely on disk on return. */
  save() {
    if (!this.path) return;
    const { owner, log, after } = this;
    const lists = { outbox: [...this.outbox.values()], tried: [...this.tried], held: [...this.held] };
    const draft = `${this.path}.new`;
    const file = openSync(draft, "w", 0o600);
    try {
      writeFileSync(file, JSON.stringify({ owner, log, after, ...lists }));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(draft, this.path);
    if (process.platform === "win32") return; // has no directories to sync
    const folder = openSync(dirname(this.path), "r");
    fsyncSync(folder);
    closeSync(folder);
  }
}

/**
 * One device of one user. Events, each with one object: `welcome`; `message` (an entry); `stored`, `refused` and `unknown` (the
 * fate of an own message, which is left in the outbox until then; `unknown`: it may be stored, and to try again is of no use);
 * `gap`; `typing`; `notice` (an error that is about no message); `away` (it comes back by itself after `wait` seconds);
 * `stopped` (it does not; `asked` if by `close`); and `empty`: nothing is left in the outbox.
 */
export class ChatClient extends EventEmitter {
  #url;
  #state;
  #socket = null;
  #welcome = null; // of the present connection
  #welcomed = 0; // when it came
  #failures = 0;
  #leaving = false;
  #fault = null; // why it leaves, if nobody asked for it
  #dirty = false; // the state has to be saved before anything is sent
  #turn = null;
  #n = 0; // every entry up to this one is held [A2]
  #early = new Set(); // held, but not everything before them is
  #acked = 0;
  #underWay = new Map(); // id → {to, tried: before this attempt, probe: whether a mailbox has room again}
  #refused = false; // stop sending until what is under way is answered and the pause is over [S4]
  #counted = false; // this refusal is in
  #refusals = 0; // in a row, those for a full mailbox left out: they have their own count
  #notBefore = 0;
  #found = false; // this refusal has told whose mailbox is full
  #full = new Map(); // recipient whose messages are set aside → {times, at: when to try one of them}
  #silence = null; // timers: no welcome came, or nothing was heard,
  #pause = null; // sending may go on,
  #retry = null; // connect again

  constructor({ url, user, device, path }) {
    super();
    this.#url = new URL(url);
    this.#state = new State(path, [`${this.#url.origin}${this.#url.pathname}`, user, device]);
    this.#url.searchParams.set("user", user); // as `trio-chat serve --demo` wants it; else, what the application documents
    this.#url.searchParams.set("device", device);
  }

  get pending() {
    return this.#state.outbox.size;
  }

  connect() {
    const url = new URL(this.#url);
    if (this.#state.log !== null) {
      url.searchParams.set("log", this.#state.log);
      url.searchParams.set("after", this.#state.after);
    }
    const options = { perMessageDeflate: false, maxPayload: LARGEST_FRAME };
    const socket = new WebSocket(url, SUBPROTOCOL, options);
    const end = { code: 1006, reason: "" };
    socket.on("unexpected-response", (_, response) => {
      end.status = response.statusCode;
      end.retryAfter = Number(response.headers["retry-after"]) || 0;
      socket.terminate();
    });
    socket.on("error", (error) => (end.error = error.message)); // "close" follows
    socket.on("close", (code, reason) => this.#closed(Object.assign(end, { code, reason: String(reason) })));
    for (const sign of ["open", "message", "ping", "pong"]) socket.on(sign, () => this.#heard());
    socket.on("message", (data) => {
      try {
        this.#receive(JSON.parse(String(data)));
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        socket.terminate();
      }
    });
    this.#silence = setTimeout(() => socket.terminate(), PATIENCE);
    this.#socket = socket;
  }

  /** Puts a message into the outbox, gives its id, and sends it as soon as possible, again and again until its fate is known. */
  send(to, text) {
    if (!NAME.test(to)) throw new RangeError("a name has 1 to 128 characters, and no control characters");
    const whole = Buffer.from(text).toString(); // text.toWellFormed() of newer Nodes
    if (!whole || whole.includes("\0")) throw new RangeError("a text is not empty and has no NUL");
    const id = randomUUID();
    this.#state.outbox.set(id, { id, to, text: whole });
    this.#later({ dirty: true });
    return id;
  }

  /** Leaves. What is in the outbox stays there; wait for `empty` before, to have all answers. */
  close() {
    if (this.#leaving) return;
    this.#leaving = true;
    this.#work(); // an ack may be due
    clearTimeout(this.#retry);
    clearTimeout(this.#pause);
    if (this.#socket === null) this.emit("stopped", { code: 1000, reason: "", asked: true });
    else if (this.#socket.readyState === WebSocket.OPEN) this.#socket.close(1000);
    else this.#socket.terminate();
  }

  /** Leaves because something is wrong that another attempt would not mend. */
  #fail(fault) {
    this.#fault = fault;
    this.#leaving = true;
    this.#socket.close(1000);
  }

  #closed(end) {
    const { code, reason, status, retryAfter = 0 } = end;
    clearTimeout(this.#silence);
    if (this.#welcome && performance.now() - this.#welcomed >= PROVEN) this.#failures = 0;
    this.#socket = this.#welcome = null;
    this.#underWay.clear(); // of unknown fate [S5]: the outbox still has them, and they are among the tried
    if (this.#leaving || (status ? !LATER(status) : FOR_GOOD.has(code))) {
      clearTimeout(this.#pause);
      this.emit("stopped", { ...end, reason: this.#fault ?? reason, asked: this.#leaving && this.#fault === null });
      this.#leaving = true;
      return;
    }
    const hint = (code === 1001 || code === 1011) && /^retry_after=([0-9]+(\.[0-9]+)?)$/.exec(reason);
    const backoff = Math.random() * Math.min(60, 2 ** this.#failures);
    const wait = hint ? Number(hint[1]) : Math.max(backoff, retryAfter);
    this.#failures += 1;
    this.#retry = setTimeout(() => this.connect(), wait * 1000);
    this.emit("away", { ...end, wait });
  }

  #heard() {
    if (!this.#welcome) return; // nothing else counts before it
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      this.#socket?.ping();
      this.#silence = setTimeout(() => this.#socket?.terminate(), PATIENCE);
    }, (this.#welcome.limits.ping_interval ?? 25) * 1000);
  }

  #begin(welcome) {
    const state = this.#state;
    const [, user, device] = state.owner;
    if (welcome.user !== user || welcome.device !== device) {
      this.#fail(`the server takes this client for ${welcome.user}, ${welcome.device}: the position is another's`);
      return;
    }
    if (welcome.log !== state.log || welcome.cursor < state.after) {
      state.log = welcome.log;
      state.after = welcome.cursor;
    }
    this.#welcome = welcome;
    this.#welcomed = performance.now();
    this.#n = this.#acked = welcome.cursor;
    this.#early.clear();
    this.#heard();
    this.emit("welcome", welcome);
    this.#later({ dirty: true });
  }

  #receive(frame) {
    if (!this.#welcome) {
      if (frame.type === "welcome") this.#begin(frame);
      else this.#socket.terminate();
    } else if (frame.type === "messages") {
      for (const entry of frame.messages) {
        if (entry.from === this.#welcome.user) this.#settled(entry); // may be one whose answer was lost
        if (this.#hold(entry, entry.from) && (entry.kind ?? "message") === "message") this.emit("message", entry); // [L5]
      }
      this.#advance();
    } else if (frame.type === "stored") {
      this.#refusals = 0;
      for (const item of frame.messages) {
        const { to, probe } = this.#underWay.get(item.id) ?? {};
        if (probe) this.#full.delete(to);
        this.#underWay.delete(item.id);
        this.#settled(item);
        this.#hold(item, this.#welcome.user);
      }
      this.#advance();
    } else if (frame.type === "gap") {
      this.#n = Math.max(this.#n, frame.to);
      this.emit("gap", frame);
      this.#advance();
    } else if (frame.type === "error" && this.#underWay.has(frame.id)) {
      const { to, tried } = this.#underWay.get(frame.id);
      this.#underWay.delete(frame.id);
      if (!tried && (frame.retry_after === undefined || NOT_STORED.has(frame.code))) this.#state.tried.delete(frame.id);
      if (frame.retry_after === undefined) this.#drop(frame.id, frame);
      else this.#refuse(to, frame);
      this.#later({ dirty: true });
    } else if (frame.type === "error" && frame.id === undefined && frame.code === "bad_frame") {
      this.#fail(`a fault of this client: ${frame.message}`); // [S3]
    } else if (frame.type === "error") {
      this.emit("notice", frame);
    } else if (frame.type === "typing") {
      this.emit("typing", frame);
    }
  }

  /** False if it is held already. (from, id) is good within a history and over the change to another [A3]. */
  #hold({ seq, id }, from) {
    if (seq > this.#n) this.#early.add(seq);
    const key = `${from}\0${id}`;
    if (this.#state.held.has(key)) return false;
    this.#state.held.add(key);
    return true;
  }

  #advance() {
    while (this.#early.delete(this.#n + 1)) this.#n += 1;
    for (const seq of this.#early) if (seq <= this.#n) this.#early.delete(seq); // a gap went over it
    this.#state.after = this.#n;
    this.#later({ dirty: true });
  }

  #settled({ id, seq, sent_at }) {
    const message = this.#state.take(id);
    if (!message) return;
    this.#state.held.add(`${this.#welcome.user}\0${id}`);
    this.emit("stored", { ...message, seq, sent_at });
  }

  #drop(id, { code, message }) {
    const event = this.#state.tried.has(id) && UNSETTLING.has(code) ? "unknown" : "refused";
    const dropped = this.#state.take(id);
    if (!dropped) return;
    this.emit(event, { ...dropped, code, message });
    this.#later({ dirty: true });
  }

  #refuse(to, { code, retry_after: pause }) {
    const now = performance.now();
    this.#refused = true;
    if (code !== "mailbox_full") {
      if (!this.#counted) this.#refusals += 1;
      this.#counted = true;
      pause = longer(pause, this.#refusals - 1);
    } else if (!this.#found) {
      this.#found = true; // the errors after it only came later, whomever their messages are to
      const times = this.#full.has(to) ? this.#full.get(to).times + 1 : 0;
      this.#full.set(to, { times, at: now + longer(pause, times) * 1000 });
    }
    this.#notBefore = Math.max(this.#notBefore, now + pause * 1000);
  }

  /** Everything that happens in one turn of the event loop is saved, acknowledged and sent at once. */
  #later({ dirty = false } = {}) {
    this.#dirty ||= dirty;
    this.#turn ??= setImmediate(() => this.#work());
  }

  #work() {
    clearImmediate(this.#turn);
    this.#turn = null;
    const sends = this.#welcome && !this.#leaving ? this.#next() : [];
    if (this.#dirty) this.#state.save(); // before the ack, and before the first attempt to send
    this.#dirty = false;
    if (this.#welcome && this.#n > this.#acked && this.#transmit({ type: "ack", seq: this.#n })) this.#acked = this.#n;
    for (const frame of sends) this.#transmit(frame);
    if (this.#state.outbox.size === 0) this.emit("empty", {});
  }

  /** What is to be sent now: the outbox in order without what is set aside, and behind it one of that, to try [S4]. */
  #next() {
    clearTimeout(this.#pause);
    const sends = [];
    const now = performance.now();
    const wait = (until) => (this.#pause = setTimeout(() => this.#later(), until - now));
    if (!this.#takes("send") || (this.#refused && this.#underWay.size > 0)) return sends;
    if (this.#refused && now < this.#notBefore) {
      wait(this.#notBefore);
      return sends;
    }
    this.#refused = this.#counted = this.#found = false;
    const aside = new Map(); // recipient → the first message
    for (const message of this.#state.outbox.values()) {
      if (this.#underWay.size >= UNDER_WAY) return sends;
      if (this.#underWay.has(message.id)) continue;
      if (!this.#full.has(message.to)) this.#attempt(message, sends);
      else if (!aside.has(message.to)) aside.set(message.to, message);
    }
    if (aside.size === 0 || [...this.#underWay.values()].some(({ probe }) => probe)) return sends;
    const at = ({ to }) => this.#full.get(to).at;
    const first = [...aside.values()].reduce((one, other) => (at(other) < at(one) ? other : one));
    if (at(first) > now) wait(at(first));
    else this.#attempt(first, sends, { probe: true });
    return sends;
  }

  #attempt(message, sends, { probe = false } = {}) {
    const { text_bytes = Infinity, frame_bytes = Infinity } = this.#welcome.limits;
    const { tried } = this.#state;
    const frame = { type: "send", ...message };
    if (Buffer.byteLength(message.text) > text_bytes || Buffer.byteLength(JSON.stringify(frame)) > frame_bytes) {
      this.#drop(message.id, { code: "too_large", message: "The text is longer than the server takes." });
      return;
    }
    this.#underWay.set(message.id, { to: message.to, tried: tried.has(message.id), probe });
    this.#dirty ||= !tried.has(message.id);
    tried.add(message.id);
    sends.push(frame);
  }

  #takes(type) {
    return this.#welcome.features.includes(type) && this.#socket.readyState === WebSocket.OPEN;
  }

  #transmit(frame) {
    if (!this.#takes(frame.type)) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }
}

function main() {
  const { values } = parseArgs({
    options: {
      url: { type: "string" },
      as: { type: "string" },
      to: { type: "string" },
      device: { type: "string", default: "node" },
      state: { type: "string" },
      stay: { type: "boolean", default: false },
    },
  });
  if (!values.url || !values.as) throw new Error("usage: --url ws://… --as USER [--to USER] [--device NAME] [--state FILE] [--stay]");
  const client = new ChatClient({ url: values.url, user: values.as, device: values.device, path: values.state });
  for (const type of ["welcome", "message", "stored", "refused", "unknown", "gap", "notice", "away", "stopped"]) {
    client.on(type, (what) => console.log(JSON.stringify({ ...what, type })));
  }
  const input = createInterface({ input: process.stdin });
  let ended = false;
  client.on("empty", () => {
    if (!ended) input.resume();
    else if (!values.stay) client.close();
  });
  for (const type of ["refused", "unknown"]) client.on(type, () => (process.exitCode = 1));
  client.on("stopped", ({ asked }) => {
    if (!asked) process.exitCode = 1;
    process.stdin.destroy();
  });
  input.on("line", (line) => {
    if (!values.to || !line) return;
    client.send(values.to, line);
    if (client.pending >= 1000) input.pause(); // until the outbox is empty: it is written to the disk as a whole
  });
  input.on("close", () => {
    ended = true;
    if (client.pending === 0 && !values.stay) client.close();
  });
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => client.close());
  client.connect();
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) main();
