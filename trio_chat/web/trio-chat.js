/**
 * A client for trio-chat in the browser, without dependencies and without a build step.
 *
 *     import { connect } from "./trio-chat.js";
 *
 *     const chat = await connect({ url: "wss://chat.example.com/ws", user: "alice", token });
 *     chat.on("message", (entry) => show(entry.from, entry.text));
 *     chat.on("stored", ({ id, seq }) => tick(id, seq));
 *     const id = chat.send("bob", "Hi Bob");
 *
 * What is handed to `send` is in IndexedDB before it leaves, and stays there until the server has stored it: it survives a
 * reload, a crash and days without a network, and arrives once. Entries come in order, once, after each reconnect from where
 * this device was. It comes back by itself, with backoff and jitter, at once when the network or the user does.
 *
 * Tabs of one browser do not replace one another: each is a device of its own (see `openStorage`), unless you name one.
 *
 * Its rules are those of docs/protocol.md, in brackets here. The files belong together: trio-chat.js, trio-chat-link.js,
 * trio-chat-outbox.js, trio-chat-requests.js and trio-chat-storage.js.
 *
 * @module
 */

import { Link } from "./trio-chat-link.js";
import { Outbox } from "./trio-chat-outbox.js";
import { ChatError, Requests } from "./trio-chat-requests.js";
import { openStorage, uuid } from "./trio-chat-storage.js";

/** @import { End, Frame, LinkState, Target } from "./trio-chat-link.js" */
/** @import { Draft, Storage } from "./trio-chat-storage.js" */

/**
 * @typedef {object} Options
 * @property {string | URL} [url] the server's WebSocket: ws(s) or http(s), or relative to the page. `/ws` by default
 * @property {string} [user] who this is, as the server will say. Without it, nothing can be written before the server was
 *   reached for the first time
 * @property {string | (() => string | Promise<string>)} [token] a bearer token, or what gives one for each attempt
 * @property {string} [device] this client's name among those of the user; by default a name of its own for each open tab
 * @property {"auto" | "manual"} [acks] `auto`: an entry counts as held when the listeners for it have returned. `manual`: when
 *   you call `ack`; then it is yours to keep what you have acknowledged
 * @property {Storage} [storage] in place of IndexedDB
 *
 * @typedef {object} Entry an entry of the user's log
 * @property {number} seq its position, in this user's own counting
 * @property {string} id
 * @property {string} from
 * @property {string} to
 * @property {string | null} text null if it was deleted
 * @property {number} sent_at Unix milliseconds of the server's clock
 * @property {string} [kind] `message` if it is not there
 * @property {string} [reply_to] the id of the message that this one answers
 * @property {string} [target] the id of the message that an edit or a deletion is about
 * @property {number} [edit_seq] of the newest edit, in the answers to queries only; as the next two
 * @property {number} [edited_at]
 * @property {boolean} [deleted]
 *
 * @typedef {{peer?: string, before?: number, after?: number, around?: number, since?: number, until?: number, ids?: string[],
 *   unread?: boolean, direction?: "in" | "out", order?: "asc" | "desc", limit?: number}} HistoryQuery
 * @typedef {{messages: Entry[], more: boolean, next: number | null}} HistoryPage
 * @typedef {{hits: {message: Entry, snippet: string[]}[], more: boolean, next: number | null}} SearchPage every second piece of a
 *   snippet, from the second, is what matches
 * @typedef {{peer: string, last: Entry | null, unread: number, delivered: number, read: number, own_delivered: number,
 *   own_read: number}} Conversation
 * @typedef {{conversations: Conversation[], more: boolean, next: number | null}} ConversationsPage
 * @typedef {{name: string, cursor: number, seen: number, created: number, connected: boolean}} Device
 *
 * @typedef {{providers: {name: string, key?: string}[], targets: {device: string, provider: string, kind: string,
 *   registered: number}[], muted: string[], quiet: boolean}} PushSettings `key` is the `applicationServerKey` of Web Push
 *
 * @typedef {object} Events
 * @property {{state: LinkState, end?: End}} state `away`: it comes back by itself after `end.wait` seconds; `stopped`: it does not
 * @property {Frame} welcome with `reset`: whether what is known of the log so far may have holes, or belongs to another history
 * @property {Entry} message
 * @property {Entry} edit
 * @property {Entry} delete
 * @property {Draft & {seq: number, sent_at: number}} stored what was sent is stored
 * @property {Draft & {code: string, message: string}} refused what was sent is not stored
 * @property {Draft & {code: string, message: string}} unknown it may be stored, and to try again is of no use
 * @property {{peer: string, delivered?: number, read?: number}} receipt how far the peer is with the user's messages
 * @property {{peer: string, seq: number}} read how far another device of the user has read
 * @property {{from: string, typing: boolean}} typing
 * @property {{user: string, online: boolean, last_seen: number | null}} presence
 * @property {{from: number, to: number}} gap these entries are no longer held
 * @property {{code: string, message: string}} notice an error that is about no message
 * @property {{}} empty nothing is left in the outbox
 */

export { ChatError };

const REMEMBERED = 20_000; // entries, to know what comes again [A3]
const TYPING_AGAIN = 5_000; // ms
const NAME = /^[^\u0000-\u001f\u007f-\u009f]{1,128}$/u; // with u, a character outside the BMP counts as one

/**
 * Opens a client and begins to connect. Resolves when it may be written with: at once with `user`, else when the server has
 * said who this is.
 *
 * @param {Options} [options]
 * @returns {Promise<Chat>}
 * @throws {ChatError} `stopped`: without `user`, and the server does not let this client in
 */
export async function connect(options = {}) {
  const url = new URL(options.url ?? "/ws", globalThis.location?.href);
  url.protocol = url.protocol.replace("http", "ws");
  const user = options.user ?? (await whoami({ ...options, url }));
  const storage = options.storage ?? (await openStorage(`${url.origin}${url.pathname}`, user, options.device));
  return new Chat({ ...options, url, user }, storage);
}

/** @param {URL} url @param {Options["token"]} token @returns {Promise<Target>} */
async function target(url, token) {
  const bearer = typeof token === "function" ? await token() : token;
  if (bearer === undefined) return { url, protocols: [], headers: {} };
  return { url, protocols: [`bearer.${bearer}`], headers: { Authorization: `Bearer ${bearer}` } };
}

/** Asks the server, on a connection that changes nothing, whom it takes this client for. @param {Options & {url: URL}} options @returns {Promise<string>} */
function whoami({ url, token }) {
  const asking = new URL(url);
  asking.searchParams.set("window", "0");
  return new Promise((resolve, reject) => {
    const link = new Link({
      target: () => target(asking, token),
      welcome(welcome) {
        resolve(welcome.user);
        link.close();
      },
      frame() {},
      state(state, end) {
        if (state === "stopped" && !end?.asked) reject(new ChatError("stopped", end?.reason || `status ${end?.status ?? end?.code}`));
      },
    });
    link.open();
  });
}

export class Chat {
  #url;
  #token;
  #manual;
  #storage;
  #link;
  #outbox;
  /** @type {Map<string, Set<(event: any) => unknown>>} */
  #listeners = new Map();
  #n = 0; // every entry up to this one is held [A2]
  /** @type {Set<number>} */
  #early = new Set(); // held, but not everything before them is
  #confirmed = 0; // by the application, with acks of its own
  #acked = 0;
  /** @type {Set<string>} */
  #held = new Set(); // "from\0id"; a name has no control characters
  /** @type {Draft[]} */
  #put = []; // to be written at the end of this turn
  /** @type {string[]} */
  #remove = [];
  #moved = false; // so is the position
  #turn = false; // that end is awaited
  #requests;
  /** @type {Map<string, number>} */
  #reads = new Map(); // up to where the user has read, by peer
  #unsaid = new Set(); // peers for whom the server was not told so
  /** @type {Map<string, number>} */
  #typing = new Map(); // to whom, and when it was said last
  /** @type {string[] | null} */
  #watched = null;
  #unwatched = false; // the server was not told so
  #off = () => {};

  /** Use `connect`. @param {Options & {url: URL, user: string}} options @param {Storage} storage */
  constructor({ url, user, token, acks }, storage) {
    this.user = user;
    this.device = storage.device;
    this.#url = url;
    this.#token = token;
    this.#manual = acks === "manual";
    this.#storage = storage;
    this.#outbox = new Outbox(
      {
        send: (frame) => this.#link.send(frame),
        limits: () => this.#link.welcome?.limits ?? null,
        dropped: (draft, fate, why) => {
          this.#remove.push(draft.id);
          this.#emit(fate, { ...draft, ...why });
          this.#later();
        },
      },
      storage.outbox,
    );
    this.#link = new Link({
      target: () => target(this.#address(), this.#token),
      welcome: (welcome) => this.#begin(welcome),
      frame: (frame) => this.#receive(frame),
      state: (state, end) => this.#became(state, end),
    });
    this.#requests = new Requests(
      (frame) => (this.#link.send(frame) ? "sent" : this.supports(frame.type) ? "offline" : "unsupported"),
      () => this.#later(),
    );
    this.#attend();
    this.connect();
  }

  /** @returns {LinkState} */
  get state() {
    return this.#link.state;
  }

  /** Whether what was sent survives the end of the page. */
  get durable() {
    return this.#storage.durable;
  }

  /** Which history every `seq` counts in; null before the first welcome. */
  get log() {
    return this.#storage.position.log;
  }

  /** What is not known to be stored, in order. @returns {Draft[]} */
  get outbox() {
    return this.#outbox.list();
  }

  /**
   * Calls `listener` for each event of this type, until the function it gives is called.
   *
   * @template {keyof Events} T
   * @param {T} type
   * @param {(event: Events[T]) => unknown} listener
   * @returns {() => void}
   */
  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /** Connects now, rather than after the pause of the backoff; also after it stopped. */
  connect() {
    this.#link.open();
  }

  /** Leaves. What is in the outbox stays there; wait for `empty` before, to have all answers. */
  close() {
    this.#work(); // what was written in this very turn
    this.#off();
    this.#link.close();
    this.#storage.close();
  }

  /**
   * Sends a message, as soon as there is a connection, and again until its fate is known: `stored`, `refused` or `unknown`.
   *
   * @param {string} to
   * @param {string} text
   * @param {{replyTo?: string}} [options] the id of the message that this one answers
   * @returns {string} its id
   * @throws {RangeError} there is no text, or `to` is no name
   */
  send(to, text, { replyTo } = {}) {
    return this.#write({ type: "send", id: uuid(), to, text: whole(text), ...(replyTo === undefined ? {} : { reply_to: replyTo }) });
  }

  /** Replaces the text of the user's own message `target`; otherwise as `send`. @param {string} to @param {string} target @param {string} text */
  edit(to, target, text) {
    return this.#write({ type: "edit", id: uuid(), to, target, text: whole(text) });
  }

  /** Deletes the text of the user's own message `target`; otherwise as `send`. @param {string} to @param {string} target */
  delete(to, target) {
    return this.#write({ type: "delete", id: uuid(), to, target });
  }

  /** With `acks: "manual"`: everything up to `seq` is safe. Cumulative; what is not higher than before is ignored. @param {number} seq */
  ack(seq) {
    this.#confirmed = Math.max(this.#confirmed, seq);
    this.#later({ moved: true });
  }

  /** The user has read the peer's messages up to `seq`. @param {string} peer @param {number} seq */
  read(peer, seq) {
    if (seq <= (this.#reads.get(peer) ?? 0)) return;
    this.#reads.set(peer, seq);
    this.#unsaid.add(peer);
    this.#later();
  }

  /** The user is writing to `to`, or has stopped. Call it for every key; it is sent as often as makes sense. @param {string} to @param {boolean} typing */
  typing(to, typing) {
    const said = this.#typing.get(to);
    if (typing ? said !== undefined && performance.now() - said < TYPING_AGAIN : said === undefined) return;
    if (typing) this.#typing.set(to, performance.now());
    else this.#typing.delete(to);
    this.#link.send({ type: "typing", to, typing });
  }

  /**
   * Whose presence to follow, in place of the earlier list; 200 at most. The server tells it of those with whom the user has
   * exchanged messages, so ask again when that has come to pass.
   *
   * @param {string[]} users
   */
  watch(users) {
    this.#watched = [...users];
    this.#unwatched = true;
    this.#later();
  }

  /** @param {HistoryQuery} [query] @param {{signal?: AbortSignal}} [options] @returns {Promise<HistoryPage>} */
  history(query, options) {
    return this.#ask({ type: "history", ...query }, options);
  }

  /** @param {{query: string, peer?: string, before?: number, limit?: number}} query @param {{signal?: AbortSignal}} [options] @returns {Promise<SearchPage>} */
  search(query, options) {
    return this.#ask({ type: "search", ...query }, options);
  }

  /** @param {{before?: number, limit?: number}} [query] @param {{signal?: AbortSignal}} [options] @returns {Promise<ConversationsPage>} */
  conversations(query, options) {
    return this.#ask({ type: "conversations", ...query }, options);
  }

  /** @returns {Promise<Device[]>} */
  async devices() {
    return (await this.#ask({ type: "devices" })).devices;
  }

  /** Forgets a device and closes its connection; gives those that are left. @param {string} device @returns {Promise<Device[]>} */
  async removeDevice(device) {
    return (await this.#ask({ type: "remove_device", device })).devices;
  }

  /** Stops hearing from a user, who cannot tell; gives all who are blocked. @param {string} user @returns {Promise<string[]>} */
  async block(user) {
    return (await this.#ask({ type: "block", user })).users;
  }

  /** @param {string} user @returns {Promise<string[]>} */
  async unblock(user) {
    return (await this.#ask({ type: "unblock", user })).users;
  }

  /** @returns {Promise<string[]>} */
  async blocks() {
    return (await this.#ask({ type: "blocks" })).users;
  }

  /** How devices can be reached while they are away, and what the user has said about it. @returns {Promise<PushSettings>} */
  push() {
    return this.#ask({ type: "push" });
  }

  /** Has this device told of messages while it is away; to be called at every start. For Web Push the kind is `subscription` and the target `JSON.stringify(subscription)`. @param {string} provider @param {string} kind @param {string} target @returns {Promise<PushSettings>} */
  registerPush(provider, kind, target) {
    return this.#ask({ type: "push_register", provider, kind, target });
  }

  /** Has this device told no more, by that provider or at all. @param {string} [provider] @returns {Promise<PushSettings>} */
  unregisterPush(provider) {
    return this.#ask({ type: "push_unregister", ...(provider === undefined ? {} : { provider }) });
  }

  /** Has the user's devices not told of this user's messages. @param {string} user @returns {Promise<PushSettings>} */
  mute(user) {
    return this.#ask({ type: "mute", user });
  }

  /** @param {string} user @returns {Promise<PushSettings>} */
  unmute(user) {
    return this.#ask({ type: "unmute", user });
  }

  /** Has the user's devices told of nothing, or of everything again. @param {boolean} quiet @returns {Promise<PushSettings>} */
  setQuiet(quiet) {
    return this.#ask({ type: "quiet", quiet });
  }

  /** Whether the server takes frames of this type; true while that is not known. @param {string} feature */
  supports(feature) {
    return this.#link.welcome?.features.includes(feature) ?? true;
  }

  /** @param {string} type @param {unknown} event */
  #emit(type, event) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error; // the page's own fault, and for its console: this client goes on
        });
      }
    }
  }

  /** Looks whether the connection is still alive whenever there is a reason to believe that it is needed, or that it is not. */
  #attend() {
    if (typeof document === "undefined") return;
    const end = new AbortController();
    const nudge = () => document.visibilityState === "visible" && this.#link.nudge();
    for (const type of ["online", "offline", "pageshow"]) addEventListener(type, nudge, { signal: end.signal });
    document.addEventListener("visibilitychange", nudge, { signal: end.signal });
    this.#off = () => end.abort();
  }

  #address() {
    const url = new URL(this.#url);
    const { log, after } = this.#storage.position;
    url.searchParams.set("device", this.device);
    if (log !== null) {
      url.searchParams.set("log", log);
      url.searchParams.set("after", String(after));
    }
    return url;
  }

  /** @param {LinkState} state @param {End} [end] */
  #became(state, end) {
    if (state === "away" || state === "stopped") {
      this.#outbox.disconnected();
      this.#typing.clear();
      this.#requests.disconnected();
    }
    if (state === "stopped") this.#requests.stopped(end?.reason || `the connection ended with ${end?.status ?? end?.code}`);
    this.#emit("state", { state, end });
  }

  /** @param {Frame} welcome */
  #begin(welcome) {
    const { position } = this.#storage;
    if (welcome.user !== this.user || welcome.device !== this.device) {
      this.#link.close(`the server takes this client for ${welcome.user}, ${welcome.device}`); // the position is another's
      return;
    }
    const other = welcome.log !== position.log;
    const reset = other || welcome.cursor !== position.after;
    if (other) for (const marks of [this.#reads, this.#unsaid]) marks.clear(); // positions of another history
    this.#confirmed = other || welcome.cursor < position.after ? welcome.cursor : Math.max(this.#confirmed, welcome.cursor);
    this.#n = this.#acked = welcome.cursor;
    this.#early.clear();
    this.#storage.position = { log: welcome.log, after: welcome.cursor };
    this.#emit("welcome", { ...welcome, reset });
    this.#unwatched = this.#watched !== null;
    this.#later({ moved: true });
  }

  /** @param {Frame} frame */
  #receive(frame) {
    switch (frame.type) {
      case "messages":
        for (const entry of frame.messages) {
          if (entry.from === this.user) this.#settled(entry); // may be one whose answer was lost
          if (this.#hold(entry, entry.from)) this.#show(entry);
        }
        return this.#advance();
      case "stored":
        for (const item of frame.messages) {
          this.#settled(item);
          this.#hold(item, this.user);
        }
        return this.#advance();
      case "gap":
        this.#n = Math.max(this.#n, frame.to);
        this.#emit("gap", frame);
        return this.#advance();
      case "error":
        return this.#refused(frame);
      case "receipt":
      case "read":
      case "typing":
      case "presence":
        return this.#emit(frame.type, frame);
    }
    if (frame.ref !== undefined) this.#requests.answered(frame);
  }

  /** @param {Entry} entry */
  #show(entry) {
    const { kind = "message" } = entry;
    if (kind === "message" || kind === "edit" || kind === "delete") this.#emit(kind, entry); // others are for newer clients [L5]
  }

  /** False if it is held already. (from, id) is good within a history and over the change to another [A3]. @param {{seq: number, id: string}} entry @param {string} from */
  #hold({ seq, id }, from) {
    if (seq > this.#n) this.#early.add(seq);
    const key = `${from}\0${id}`;
    if (this.#held.has(key)) return false;
    this.#held.add(key);
    if (this.#held.size > REMEMBERED) this.#held.delete(/** @type {string} */ (this.#held.values().next().value));
    return true;
  }

  #advance() {
    while (this.#early.delete(this.#n + 1)) this.#n += 1;
    for (const seq of this.#early) if (seq <= this.#n) this.#early.delete(seq); // a gap went over it
    this.#later({ moved: true });
  }

  /** @param {{id: string, seq: number, sent_at: number, text?: string}} item the text is there if the server has changed it */
  #settled({ id, seq, sent_at, text }) {
    const draft = this.#outbox.stored(id);
    if (!draft) return;
    this.#held.add(`${this.user}\0${id}`);
    this.#remove.push(id);
    this.#emit("stored", { ...draft, ...(text === undefined ? {} : { text }), seq, sent_at });
  }

  /** @param {Frame} error */
  #refused(error) {
    if (this.#outbox.isUnderWay(error.id)) {
      this.#outbox.failed(error);
      this.#later();
    } else if (error.code === "bad_frame" && error.id === undefined && error.ref === undefined) {
      this.#link.close(`a fault of this client: ${error.message}`); // [S3]
    } else if (!this.#requests.failed(error)) {
      if (error.retry_after !== undefined) setTimeout(() => this.#again(), error.retry_after * 1000);
      this.#emit("notice", error);
    }
  }

  /** An `overloaded` about nothing is about a read mark, and does not say which [S3]. */
  #again() {
    for (const peer of this.#reads.keys()) this.#unsaid.add(peer);
    this.#later();
  }

  /** @param {Frame} question @param {{signal?: AbortSignal}} [options] @returns {Promise<any>} */
  #ask(question, options) {
    if (this.state === "stopped") return Promise.reject(new ChatError("stopped", "there is no connection"));
    return this.#requests.ask(question, options);
  }

  /** @param {Draft} draft */
  #write(draft) {
    if (!NAME.test(draft.to)) throw new RangeError("a name has 1 to 128 characters, and no control characters");
    this.#outbox.add(draft);
    this.#put.push(draft);
    if (draft.type === "send") this.#typing.delete(draft.to);
    this.#later();
    return draft.id;
  }

  /** Everything that happens in one turn of the event loop is written, acknowledged and sent at once. @param {{moved?: boolean}} [what] */
  #later({ moved = false } = {}) {
    this.#moved ||= moved;
    if (this.#turn) return;
    this.#turn = true;
    queueMicrotask(() => this.#work());
  }

  #work() {
    this.#turn = false;
    this.#inquire();
    const put = this.#put.splice(0);
    const remove = this.#remove.splice(0);
    const held = this.#manual ? Math.min(this.#n, this.#confirmed) : this.#n;
    if (this.#moved) this.#storage.position = { ...this.#storage.position, after: held };
    const written = put.length || remove.length || this.#moved ? this.#save({ put, remove, moved: this.#moved }) : null;
    this.#moved = false;
    if (!written) this.#transmit();
    if (remove.length && this.#outbox.size === 0) this.#emit("empty", {});
  }

  /** Questions need no storage, so they do not wait for it. */
  #inquire() {
    this.#requests.pump();
    if (this.#unwatched && this.#link.send({ type: "watch", ref: uuid(), users: this.#watched })) this.#unwatched = false;
  }

  /** Writes, and then acknowledges and sends: what is not in storage yet is not held, and must not be sent. @param {{put: Draft[], remove: string[], moved: boolean}} what */
  async #save({ put, remove, moved }) {
    const { position } = this.#storage;
    const welcome = this.#link.welcome;
    try {
      await this.#storage.write({ put, remove, ...(moved ? { position } : {}) });
    } catch (error) {
      this.#emit("notice", { code: "storage", message: String(error) }); // full, say: go on with what is in memory
    }
    this.#outbox.saved(put);
    if (moved && welcome === this.#link.welcome && position.after > this.#acked) {
      if (this.#link.send({ type: "ack", seq: position.after })) this.#acked = position.after;
    }
    this.#transmit();
  }

  #transmit() {
    this.#outbox.pump();
    for (const peer of this.#unsaid) {
      if (this.#link.send({ type: "read", peer, seq: this.#reads.get(peer) })) this.#unsaid.delete(peer);
    }
  }
}

/** Text as it can be sent: half of a character that was cut in two is replaced. @param {string} text */
function whole(text) {
  const mended = new TextDecoder().decode(new TextEncoder().encode(text));
  if (!mended || mended.includes("\0")) throw new RangeError("a text is not empty and has no NUL");
  return mended;
}
