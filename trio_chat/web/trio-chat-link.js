// A connection of trio-chat.js that comes back by itself. What is in brackets, such as [C3], is a rule of docs/protocol.md.

/**
 * @typedef {{[field: string]: any, type: string}} Frame
 * @typedef {{code: number, reason: string, status?: number, wait?: number, asked?: boolean}} End why a connection ended:
 *   its close code and reason, the HTTP status if it was not opened, and the seconds until the next attempt
 * @typedef {{url: URL, protocols: string[], headers: Record<string, string>}} Target
 * @typedef {"connecting" | "open" | "away" | "stopped"} LinkState
 *
 * @typedef {object} Listener
 * @property {() => Promise<Target>} target where the next attempt goes
 * @property {(welcome: Frame) => void} welcome
 * @property {(frame: Frame) => void} frame
 * @property {(state: LinkState, end?: End) => void} state
 */

const SUBPROTOCOL = "trio-chat.v1";
const PATIENCE = 10_000; // ms: from the attempt to the welcome, and from a ping to any sign of life
const HASTE = 5_000; // ms: the same for a ping that is sent because somebody is looking
const PROVEN = 10_000; // ms after the welcome: a connection that lasts longer was a good one, and the backoff starts again
const FOR_GOOD = new Set([1000, 1002, 1007, 1008, 1009, 4401, 4409, 4429]);
const HINT = /^retry_after=([0-9]+(\.[0-9]+)?)$/;

const now = () => performance.now();

/** Whether another attempt makes sense after this HTTP status; 426 says that only the WebSocket was missing. @param {number} status */
const later = (status) => status >= 500 || status === 408 || status === 426 || status === 429;

export class Link {
  /** @type {Listener} */
  #listener;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Frame | null} */
  #welcome = null; // of the present connection
  #welcomed = 0; // when it came
  #failures = 0;
  #heard = 0; // when anything came last
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer; // of the one thing that is waited for: the welcome, a sign of life, or the next attempt
  #attempt = 0; // which one this is: what belongs to an earlier one is ignored
  /** @type {LinkState} */
  #state = "stopped";

  /** @param {Listener} listener */
  constructor(listener) {
    this.#listener = listener;
  }

  get state() {
    return this.#state;
  }

  get welcome() {
    return this.#welcome;
  }

  /** Connects at once, unless it is connected or about to be. */
  open() {
    if (this.#state === "connecting" || this.#state === "open") return;
    if (this.#state === "stopped") this.#failures = 0;
    this.#connect();
  }

  /** Somebody is looking, or there is a network again: do not wait for a timer that may have slept. */
  nudge() {
    if (this.#state === "away") this.open();
    if (this.#state !== "open") return;
    const silence = now() - this.#heard;
    if (silence > this.#interval + PATIENCE) this.#lost(); // the page slept, and this connection did not outlive it
    else if (silence > 1000) this.#ping(HASTE);
  }

  /** @param {Frame} frame @returns {boolean} whether it was handed to an open connection; never that it arrived */
  send(frame) {
    if (!this.#welcome || this.#socket?.readyState !== 1 || !this.#welcome.features.includes(frame.type)) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** Leaves, and does not come back by itself. @param {string} [fault] why, if nobody asked for it */
  close(fault) {
    if (this.#state === "stopped") return;
    const socket = this.#detach();
    socket?.close(1000);
    this.#stop({ code: 1000, reason: fault ?? "", asked: fault === undefined });
  }

  get #interval() {
    return (this.#welcome?.limits.ping_interval ?? 25) * 1000;
  }

  async #connect() {
    const attempt = ++this.#attempt;
    clearTimeout(this.#timer);
    this.#become("connecting");
    let target;
    try {
      target = await this.#listener.target();
    } catch (error) {
      if (attempt === this.#attempt) this.#retry({ code: 1006, reason: String(error) });
      return;
    }
    if (attempt !== this.#attempt) return;
    let socket;
    try {
      socket = new WebSocket(target.url, [SUBPROTOCOL, ...target.protocols]);
    } catch (error) {
      this.#stop({ code: 1006, reason: String(error) }); // an address or a token that cannot be one
      return;
    }
    let opened = false;
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#lost(), PATIENCE);
    socket.onopen = () => {
      if (this.#socket !== socket) return;
      opened = true;
      if (socket.protocol !== SUBPROTOCOL) this.close("this is no trio-chat server");
    };
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#receive(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (this.#socket !== socket) return;
      this.#detach();
      if (opened || code !== 1006) this.#ended({ code, reason });
      else this.#ask(target, { code, reason });
    };
  }

  /** Lets go of the socket, whose end is of no interest any more. */
  #detach() {
    const socket = this.#socket;
    this.#attempt += 1;
    this.#socket = this.#welcome = null;
    clearTimeout(this.#timer);
    return socket;
  }

  /** A script is not told the status of a handshake that failed; the same address, asked plainly, says it. @param {Target} target @param {End} end */
  async #ask(target, end) {
    const attempt = this.#attempt;
    const url = new URL(target.url);
    url.protocol = url.protocol.replace("ws", "http");
    const giveUp = new AbortController();
    this.#timer = setTimeout(() => giveUp.abort(), PATIENCE);
    let status = 0;
    let pause = 0;
    try {
      const options = { headers: target.headers, signal: giveUp.signal };
      const answer = await fetch(url, { ...options, cache: "no-store", credentials: "include", redirect: "manual" });
      status = answer.type === "opaqueredirect" ? 302 : answer.status;
      pause = Number(answer.headers.get("retry-after")) || 0;
    } catch {
      // Nothing is there, or this page may not read what it says: another attempt will tell.
    }
    clearTimeout(this.#timer);
    if (attempt !== this.#attempt) return;
    if (status === 0) this.#retry(end);
    else if (later(status)) this.#retry({ ...end, status }, pause);
    else this.#stop({ ...end, status });
  }

  /** @param {unknown} data */
  #receive(data) {
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      this.#lost();
      return;
    }
    if (this.#welcome) {
      this.#alive();
      this.#listener.frame(frame);
    } else if (frame.type === "welcome") {
      this.#welcome = frame;
      this.#welcomed = now();
      this.#alive();
      this.#become("open");
      this.#listener.welcome(frame);
    } else {
      this.#lost();
    }
  }

  #alive() {
    this.#heard = now();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ping(PATIENCE), this.#interval);
  }

  /** Asks whether the server is still there; browsers show their scripts no WebSocket pings. @param {number} patience */
  #ping(patience) {
    clearTimeout(this.#timer);
    this.send({ type: "ping" });
    this.#timer = setTimeout(() => this.#lost(), patience);
  }

  /** This connection is dead, whatever it may still think. The new one replaces it [C3], so its end need not be waited for. */
  #lost() {
    const socket = this.#detach();
    socket?.close();
    this.#ended({ code: 1006, reason: "" });
  }

  /** @param {End} end */
  #ended(end) {
    if (this.#state === "open" && now() - this.#welcomed >= PROVEN) this.#failures = 0;
    if (FOR_GOOD.has(end.code)) this.#stop(end);
    else this.#retry(end);
  }

  /** @param {End} end @param {number} [pause] seconds, at least */
  #retry(end, pause = 0) {
    const hint = end.code === 1001 || end.code === 1011 ? HINT.exec(end.reason) : null;
    const backoff = Math.random() * Math.min(60, 2 ** this.#failures);
    const wait = hint ? Number(hint[1]) : Math.max(backoff, pause);
    this.#failures += 1;
    this.#timer = setTimeout(() => this.#connect(), wait * 1000);
    this.#become("away", { ...end, wait });
  }

  /** @param {End} end */
  #stop(end) {
    this.#attempt += 1;
    clearTimeout(this.#timer);
    this.#become("stopped", { asked: false, ...end });
  }

  /** @param {LinkState} state @param {End} [end] */
  #become(state, end) {
    this.#state = state;
    this.#listener.state(state, end);
  }
}
