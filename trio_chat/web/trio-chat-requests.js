// What trio-chat.js asks the server: each question until it is answered, over however many connections that takes.

import { uuid } from "./trio-chat-storage.js";

/** @import { Frame } from "./trio-chat-link.js" */

const AT_ONCE = 4; // without an answer; the server keeps eight waiting

/** A refusal by the server, with its `code`; or `stopped`, `unsupported` (by this server), `aborted`. */
export class ChatError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = "ChatError";
    this.code = code;
  }
}

export class Requests {
  /** @type {Map<string, {frame: Frame, sent: boolean, resolve: (answer: any) => void, reject: (error: Error) => void}>} */
  #open = new Map();
  #send;
  #later;

  /**
   * @param {(frame: Frame) => "sent" | "offline" | "unsupported"} send
   * @param {() => void} later asks for `pump` to be called
   */
  constructor(send, later) {
    this.#send = send;
    this.#later = later;
  }

  /** @param {Frame} question @param {{signal?: AbortSignal}} [options] @returns {Promise<any>} */
  ask(question, { signal } = {}) {
    const ref = uuid();
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#open.delete(ref);
        reject(new ChatError("aborted", "nobody wants to know any more"));
      };
      if (signal?.aborted) return abort();
      signal?.addEventListener("abort", abort, { once: true });
      this.#open.set(ref, { frame: { ...question, ref }, sent: false, resolve, reject });
      this.#later();
    });
  }

  /** @param {Frame} answer */
  answered(answer) {
    const request = this.#open.get(answer.ref);
    this.#open.delete(answer.ref);
    request?.resolve(answer);
    this.#later();
  }

  /** Whether this error is about one of these. @param {Frame} error */
  failed(error) {
    const request = this.#open.get(error.ref);
    if (!request) return false;
    if (error.retry_after === undefined) {
      this.#open.delete(error.ref);
      request.reject(new ChatError(error.code, error.message));
      this.#later();
    } else {
      setTimeout(() => {
        request.sent = false;
        this.#later();
      }, error.retry_after * 1000);
    }
    return true;
  }

  disconnected() {
    for (const request of this.#open.values()) request.sent = false;
  }

  /** There will be no connection. @param {string} why */
  stopped(why) {
    for (const { reject } of this.#open.values()) reject(new ChatError("stopped", why));
    this.#open.clear();
  }

  pump() {
    let asked = [...this.#open.values()].filter(({ sent }) => sent).length;
    for (const [ref, request] of this.#open) {
      if (asked >= AT_ONCE) return;
      if (request.sent) continue;
      const outcome = this.#send(request.frame);
      if (outcome === "offline") return;
      if (outcome === "sent") {
        request.sent = true;
        asked += 1;
      } else {
        this.#open.delete(ref);
        request.reject(new ChatError("unsupported", `this server does not know ${request.frame.type}`));
      }
    }
  }
}
