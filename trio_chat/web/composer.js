// Where one writes: new messages, answers and corrections.

import { the } from "./dom.js";

export class Composer {
  #page;
  #about = null; // {edit: message} or {reply: message}
  #drafts = new Map(); // what was begun in other conversations
  #peer = null;
  #idle = 0;

  constructor(page) {
    this.#page = page;
    const text = the("text");
    the("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    text.addEventListener("input", () => this.#typed());
    text.addEventListener("blur", () => this.#typing(false));
    text.addEventListener("keydown", (event) => {
      const touch = matchMedia("(pointer: coarse)").matches; // there, Enter is the only way to a new line
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !touch) {
        event.preventDefault();
        this.#send();
      } else if (event.key === "Escape" && this.#about) {
        this.#leave();
      } else if (event.key === "ArrowUp" && text.value === "") {
        const last = page.view.thread.messages.findLast(({ own, state, deleted }) => own && state === "stored" && !deleted);
        if (last) event.preventDefault();
        if (last) this.edit(last);
      }
    });
    the("context").querySelector("button").addEventListener("click", () => this.#leave());
  }

  /** Another conversation is shown. */
  show(peer) {
    if (peer === this.#peer) return;
    this.#typing(false);
    if (this.#about?.edit) this.#leave();
    this.#drafts.set(this.#peer, the("text").value);
    this.#peer = peer;
    this.#set(this.#drafts.get(peer) ?? "");
    this.#mind(null);
  }

  reply(message) {
    this.#mind({ reply: message }, `Reply to ${message.own ? "yourself" : this.#peer}`);
  }

  edit(message) {
    this.#set(message.text);
    this.#mind({ edit: message }, "Edit");
  }

  async remove(message) {
    const dialog = the("confirm");
    dialog.returnValue = "no";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    if (dialog.returnValue === "yes") this.#page.remove(this.#peer, message.id);
    the("text").focus();
  }

  /** A message that was not sent, for another try. */
  again(message) {
    this.#set(message.text);
    this.#page.discard(message);
    the("text").focus();
  }

  #set(text) {
    the("text").value = text;
    this.#fit();
  }

  #fit() {
    if (CSS.supports("field-sizing", "content")) return;
    const text = the("text");
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight + 2}px`;
  }

  #mind(about, title = "") {
    this.#about = about;
    const context = the("context");
    context.hidden = about === null;
    context.querySelector("strong").textContent = title;
    context.querySelector("p").textContent = ((about?.edit ?? about?.reply)?.text ?? "").slice(0, 200);
    if (about) the("text").focus();
  }

  #leave() {
    if (this.#about?.edit) this.#set("");
    this.#mind(null);
    the("text").focus();
  }

  #typed() {
    this.#fit();
    this.#typing(the("text").value !== "" && !this.#about?.edit);
  }

  #typing(on) {
    clearTimeout(this.#idle);
    if (this.#peer === null) return;
    this.#page.chat.typing(this.#peer, on);
    if (on) this.#idle = setTimeout(() => this.#typing(false), 6000);
  }

  #send() {
    const text = the("text").value.trim();
    const { edit, reply } = this.#about ?? {};
    if (text === "") return;
    clearTimeout(this.#idle);
    if (edit) {
      if (text !== edit.text) this.#page.edit(this.#peer, edit.id, text);
    } else {
      this.#page.send(this.#peer, text, reply?.id);
    }
    this.#set("");
    this.#mind(null);
    the("text").focus();
  }
}
