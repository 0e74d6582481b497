// What trio-chat.js has to send, and when it may. What is in brackets, such as [S4], is a rule of docs/protocol.md.

/** @import { Frame } from "./trio-chat-link.js" */
/** @import { Draft } from "./trio-chat-storage.js" */

const UNDER_WAY = 50; // sends without an answer
const NOT_STORED = new Set(["rate_limited", "store_full", "mailbox_full"]); // by this attempt; others that may be retried: unknown
const UNSETTLING = new Set(["too_large", "not_allowed"]); // say nothing about an earlier attempt [S5]

const now = () => performance.now();
const bytes = (/** @type {string} */ text) => new TextEncoder().encode(text).length;
const longer = (/** @type {number} */ seconds, /** @type {number} */ times) => Math.max(seconds, Math.min(60, seconds * 2 ** times));

/**
 * Messages, edits and deletions in the order in which they were made, each until its fate is known.
 *
 * @typedef {object} Post
 * @property {(frame: Frame) => boolean} send false if there is no connection to send it on
 * @property {(draft: Draft, fate: "refused" | "unknown", why: {code: string, message: string}) => void} dropped
 * @property {() => {[limit: string]: number} | null} limits of the present connection, null without one
 */
export class Outbox {
  /** @type {Post} */
  #post;
  /** @type {Map<string, Draft>} */
  #drafts = new Map();
  #safe = new Set(); // ids that storage has
  #tried = new Set(); // ids with an attempt of unknown fate [S5]
  /** @type {Map<string, {to: string, tried: boolean, probe: boolean}>} */
  #underWay = new Map(); // tried: before this attempt; probe: asks whether a mailbox has room again
  #refused = false; // stop sending until what is under way is answered and the pause is over [S4]
  #counted = false; // this refusal is in
  #refusals = 0; // in a row, those for a full mailbox left out: they have their own count
  #notBefore = 0;
  #found = false; // this refusal has told whose mailbox is full
  /** @type {Map<string, {times: number, at: number}>} */
  #full = new Map(); // recipient whose messages are set aside → how often, and when to try one of them
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #pause;

  /** @param {Post} post @param {Draft[]} found what storage had, with attempts that nobody knows of */
  constructor(post, found) {
    this.#post = post;
    for (const draft of found) {
      this.#drafts.set(draft.id, draft);
      this.#safe.add(draft.id);
      this.#tried.add(draft.id);
    }
  }

  get size() {
    return this.#drafts.size;
  }

  /** @returns {Draft[]} */
  list() {
    return [...this.#drafts.values()];
  }

  /** @param {Draft} draft */
  add(draft) {
    this.#drafts.set(draft.id, draft);
  }

  /** Storage has these: they may be sent. @param {Draft[]} drafts */
  saved(drafts) {
    for (const { id } of drafts) if (this.#drafts.has(id)) this.#safe.add(id);
  }

  /** It is stored: gives the draft, once. @param {string} id @returns {Draft | undefined} */
  stored(id) {
    this.#refusals = 0;
    const sent = this.#underWay.get(id);
    if (sent?.probe) this.#full.delete(sent.to);
    return this.#take(id);
  }

  /** @param {string} id */
  isUnderWay(id) {
    return this.#underWay.has(id);
  }

  /** The answer to one that is under way was an error. @param {Frame} error */
  failed(error) {
    const sent = this.#underWay.get(error.id);
    if (!sent) return;
    this.#underWay.delete(error.id);
    if (!sent.tried && (error.retry_after === undefined || NOT_STORED.has(error.code))) this.#tried.delete(error.id);
    if (error.retry_after === undefined) this.#drop(error.id, { code: error.code, message: error.message });
    else this.#refuse(sent.to, error);
  }

  /** The connection is gone: what was under way is of unknown fate [S5], and among the tried. */
  disconnected() {
    clearTimeout(this.#pause);
    this.#underWay.clear();
  }

  /** Sends what may be sent now: all in order, without what is set aside, and behind it one of that, to try [S4]. */
  pump() {
    clearTimeout(this.#pause);
    const limits = this.#post.limits();
    if (!limits || (this.#refused && this.#underWay.size > 0)) return;
    if (this.#refused && now() < this.#notBefore) return this.#wait(this.#notBefore);
    this.#refused = this.#counted = this.#found = false;
    /** @type {Map<string, Draft>} */
    const aside = new Map(); // recipient → the first message
    for (const draft of this.#drafts.values()) {
      if (this.#underWay.size >= UNDER_WAY || !this.#safe.has(draft.id)) return;
      if (this.#underWay.has(draft.id)) continue;
      if (this.#full.has(draft.to)) {
        if (!aside.has(draft.to)) aside.set(draft.to, draft);
      } else if (!this.#attempt(draft, limits, false)) {
        return;
      }
    }
    if (aside.size === 0 || [...this.#underWay.values()].some(({ probe }) => probe)) return;
    const at = (/** @type {Draft} */ { to }) => this.#full.get(to)?.at ?? 0;
    const first = [...aside.values()].reduce((one, other) => (at(other) < at(one) ? other : one));
    if (at(first) > now()) this.#wait(at(first));
    else this.#attempt(first, limits, true);
  }

  /** @param {Draft} draft @param {{[limit: string]: number}} limits @param {boolean} probe @returns {boolean} whether to go on */
  #attempt(draft, { text_bytes = Infinity, frame_bytes = Infinity }, probe) {
    // Both are measured here, for a frame that is too long would end the connection.
    if (bytes(String(draft.text ?? "")) > text_bytes || bytes(JSON.stringify(draft)) > frame_bytes) {
      this.#drop(draft.id, { code: "too_large", message: "The text is longer than the server takes." });
      return true;
    }
    if (!this.#post.send(draft)) return false;
    this.#underWay.set(draft.id, { to: draft.to, tried: this.#tried.has(draft.id), probe });
    this.#tried.add(draft.id);
    return true;
  }

  /** @param {string} to @param {Frame} error */
  #refuse(to, { code, retry_after: pause }) {
    this.#refused = true;
    if (code !== "mailbox_full") {
      if (!this.#counted) this.#refusals += 1;
      this.#counted = true;
      pause = longer(pause, this.#refusals - 1);
    } else if (!this.#found) {
      this.#found = true; // the errors after it only came later, whomever their messages are to
      const before = this.#full.get(to);
      const times = before ? before.times + 1 : 0;
      this.#full.set(to, { times, at: now() + longer(pause, times) * 1000 });
    }
    this.#notBefore = Math.max(this.#notBefore, now() + pause * 1000);
  }

  /** @param {string} id @param {{code: string, message: string}} why */
  #drop(id, { code, message }) {
    const fate = this.#tried.has(id) && UNSETTLING.has(code) ? "unknown" : "refused";
    const draft = this.#take(id);
    if (draft) this.#post.dropped(draft, fate, { code, message });
  }

  /** @param {string} id */
  #take(id) {
    const draft = this.#drafts.get(id);
    for (const ids of [this.#drafts, this.#safe, this.#tried, this.#underWay]) ids.delete(id);
    return draft;
  }

  /** @param {number} until */
  #wait(until) {
    this.#pause = setTimeout(() => this.pump(), until - now());
  }
}
