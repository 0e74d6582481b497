// A server that says what a test tells it to, a clock that goes when a test tells it to, and the locks of a browser.

import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto; // of a Node that is older than 19

const folder = process.env.TRIO_CHAT_WEB ?? new URL("../../trio_chat/web", import.meta.url).pathname;

/** A module of the package that is tested, wherever that is installed. */
export const load = (name) => import(`file://${folder}/${name}`);

const immediate = globalThis.setImmediate;

/** Everything that is under way without time passing has happened. */
export async function settled() {
  for (let k = 0; k < 30; k += 1) await new Promise((resolve) => immediate(resolve));
}

const PUSH = ["push_register", "push_unregister", "push", "mute", "unmute", "quiet"];
export const FEATURES = ["send", "edit", "delete", "ack", "read", "typing", "watch", "history", "conversations", "blocks", "ping", ...PUSH];
export const LIMITS = { frame_bytes: 65536, text_bytes: 16384, window: 256, window_bytes: 262144, ping_interval: 25 };

/** A WebSocket whose other end is the test. */
class Socket {
  static all = [];

  constructor(url, protocols) {
    this.url = new URL(url);
    this.protocols = protocols;
    this.protocol = "";
    this.readyState = 0;
    this.sent = [];
    Socket.all.push(this);
  }

  // What a page does.
  send(text) {
    assert.equal(this.readyState, 1, "a frame for a socket that is not open");
    this.sent.push(JSON.parse(text));
  }

  close(code) {
    this.readyState = 2;
    this.closedWith = code ?? 1005;
  }

  // What the server does.
  open(protocol = "trio-chat.v1") {
    this.protocol = protocol;
    this.readyState = 1;
    this.onopen?.({});
  }

  say(frame) {
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  end(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  async welcome(changes = {}) {
    this.open();
    const { searchParams } = this.url;
    const about = { user: "alice", device: searchParams.get("device"), log: "L-0", head: 0, floor: 0, new: false };
    const cursor = Number(searchParams.get("after") ?? 0);
    this.say({ type: "welcome", ...about, cursor, features: FEATURES, limits: LIMITS, ...changes });
    await settled();
  }

  async says(...frames) {
    for (const frame of frames) this.say(frame);
    await settled();
  }

  /** The frames of a type that it was sent. */
  of(type) {
    return this.sent.filter((frame) => frame.type === type);
  }
}

/** Time that stands still until `pass`. */
class Clock {
  #now = 0;
  #timers = new Map();
  #next = 1;

  constructor() {
    this.real = [globalThis.setTimeout, globalThis.clearTimeout, globalThis.performance];
    globalThis.setTimeout = (call, delay = 0) => {
      this.#timers.set(this.#next, { at: this.#now + delay, call });
      return this.#next++;
    };
    globalThis.clearTimeout = (timer) => this.#timers.delete(timer);
    this.#performance({ now: () => this.#now });
  }

  restore() {
    let performance;
    [globalThis.setTimeout, globalThis.clearTimeout, performance] = this.real;
    this.#performance(performance);
  }

  #performance(value) {
    Object.defineProperty(globalThis, "performance", { value, configurable: true });
  }

  async pass(seconds) {
    const until = this.#now + seconds * 1000;
    for (;;) {
      await settled();
      const due = [...this.#timers].filter(([, { at }]) => at <= until).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.#now = Math.max(this.#now, due[1].at);
      due[1].call();
    }
    this.#now = until;
  }

  /** The page sleeps: time passes, and no timer fires. */
  sleep(seconds) {
    this.#now += seconds * 1000;
  }
}

/** Web Locks, as far as `ifAvailable` goes. */
export class Locks {
  held = new Set();

  async request(name, { ifAvailable }, call) {
    assert.ok(ifAvailable);
    if (this.held.has(name)) return call(null);
    this.held.add(name);
    try {
      return await call({ name });
    } finally {
      this.held.delete(name);
    }
  }
}

/** The world that a page lives in, for one test. `answers` are what a plain request is answered with, in turn. */
export function world(t) {
  const clock = new Clock();
  const random = Math.random;
  Math.random = () => 0.5;
  Socket.all = [];
  globalThis.WebSocket = Socket;
  const page = new EventTarget();
  page.visibilityState = "visible";
  globalThis.document = page;
  const globalEvents = new EventTarget();
  globalThis.addEventListener = globalEvents.addEventListener.bind(globalEvents);
  const locks = new Locks();
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
  const fetched = [];
  const answers = [];
  globalThis.fetch = async (url, options) => {
    fetched.push({ url: new URL(url), ...options });
    const { status, headers = {}, type = "basic" } = answers.shift() ?? {};
    if (status === undefined) throw new TypeError("Failed to fetch");
    return { status, type, headers: new Headers(headers) };
  };
  t.after(() => {
    clock.restore();
    Math.random = random;
  });
  return {
    clock,
    locks,
    fetched,
    answers,
    page,
    happens: (type) => globalEvents.dispatchEvent(new Event(type)),
    get sockets() {
      return Socket.all;
    },
    get socket() {
      return Socket.all.at(-1);
    },
  };
}

/** Records the events of a client. */
export function heard(chat, ...types) {
  const events = [];
  for (const type of types) chat.on(type, (event) => events.push([type, event]));
  return events;
}

let n = 0;
export const entry = (seq, changes = {}) => {
  n += 1;
  return { seq, id: `id-${n}`, from: "bob", to: "alice", text: `text ${seq}`, sent_at: 1_000 + seq, kind: "message", ...changes };
};
export const messages = (...entries) => ({ type: "messages", messages: entries, head: entries.at(-1).seq });
