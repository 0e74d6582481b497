// The messages of one conversation: drawn, scrolled, and loaded as one scrolls.

import { aside, avatar, dayOf, icon, lastSeen, make, name, say, the, tick, timeOf } from "./dom.js";
import { address, face } from "./sidebar.js";

const PAGE = 60;
const KEPT = 300; // messages, when one goes back to the newest
const NEAR = 700; // pixels from the end of what is loaded: time to load more
const BOTTOM = 60; // pixels from the bottom that still count as being there
const TOGETHER = 5 * 60_000; // ms between messages that look like one
const JUMBO = /^(?:\p{Extended_Pictographic}|\p{Emoji_Modifier}|\p{Regional_Indicator}|[\u200d\ufe0f])+$/u;

export class ThreadView {
  #page;
  #thread = null;
  #drawn = new Map(); // message's key → its element and what it was drawn from
  #days = new Map();
  #loading = false;
  #missed = 0; // messages that came while the user was reading older ones
  #tools = make("div", { class: "tools" });
  #holder = null; // the message that has the tools

  constructor(page) {
    this.#page = page;
    const { scroller, messages } = this.#parts();
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    messages.addEventListener("pointerover", (event) => event.pointerType === "mouse" && this.#hold(event.target.closest(".message")));
    messages.addEventListener("pointerleave", () => this.#hold(null));
    messages.addEventListener("focusin", (event) => this.#hold(event.target.closest(".message")));
    messages.addEventListener("click", (event) => this.#hold(event.target.closest(".message")));
    messages.addEventListener("keydown", (event) => this.#walk(event));
    the("latest").addEventListener("click", () => this.latest());
    new ResizeObserver(() => this.#stay()).observe(scroller);
  }

  #parts() {
    return { scroller: the("scroller"), messages: the("messages") };
  }

  get thread() {
    return this.#thread;
  }

  get atBottom() {
    const { scroller } = this.#parts();
    return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < BOTTOM;
  }

  /** Shows the conversation; with `seq`, where that message is. */
  async show(thread, seq) {
    if (thread !== this.#thread) {
      this.#thread = thread;
      this.#drawn.clear();
      this.#missed = 0;
      this.#hold(null);
      the("messages").replaceChildren();
      this.draw({ bottom: true });
    }
    if (seq) await this.#jump(seq);
    else if (!thread.loaded) await this.load();
    else if (!thread.newer) this.draw({ bottom: true });
  }

  /** The newest messages. */
  async load() {
    const thread = this.#thread;
    await this.#fetch({ limit: PAGE }, ({ more }) => Object.assign(thread, { older: more, newer: false, loaded: true }), { bottom: true });
  }

  /** Back to the newest messages. */
  async latest() {
    if (this.#thread.newer) {
      this.#thread.clear();
      await this.load();
    }
    this.#thread.trim(KEPT);
    this.draw({ bottom: true });
    the("text").focus();
  }

  async #jump(seq) {
    const thread = this.#thread;
    if (!thread.messages.some((message) => message.seq === seq)) {
      thread.clear();
      await this.#fetch({ around: seq, limit: 30 }, ({ more }) => Object.assign(thread, { older: true, newer: more, loaded: true }));
    }
    const message = thread.messages.find((other) => other.seq === seq);
    if (!message || thread !== this.#thread) return;
    const { element } = this.#drawn.get(message.key);
    element.scrollIntoView({ block: "center" });
    element.classList.remove("flash");
    requestAnimationFrame(() => element.classList.add("flash"));
    element.focus({ preventScroll: true });
  }

  async #fetch(query, then, how = {}) {
    const thread = this.#thread;
    if (this.#loading === thread) return;
    this.#loading = thread;
    this.#draw_past();
    thread.begin();
    try {
      const page = await this.#page.chat.history({ peer: thread.peer, ...query });
      then(page);
      thread.add(page.messages);
    } catch (error) {
      if (error.code === undefined) throw error;
    } finally {
      thread.end();
      if (this.#loading === thread) this.#loading = false;
    }
    if (thread === this.#thread) {
      if (!thread.loaded && this.#page.chat.state === "open") return this.load(); // it was cleared meanwhile
      this.draw(how);
      this.#scrolled();
    }
    this.#page.read();
  }

  #scrolled() {
    const thread = this.#thread;
    if (!thread?.loaded) return;
    const { scroller } = this.#parts();
    const below = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    if (thread.older && scroller.scrollTop < NEAR) {
      this.#fetch({ before: thread.oldest, limit: 2 * PAGE }, ({ more }) => (thread.older = more));
    } else if (thread.newer && below < NEAR) {
      this.#fetch({ after: thread.newest, limit: 2 * PAGE }, ({ more }) => (thread.newer = more));
    }
    if (this.atBottom && !thread.newer) this.#missed = 0;
    the("latest").hidden = this.atBottom && !thread.newer;
    the("latest").setAttribute("aria-label", this.#missed ? `To the ${this.#missed} new messages` : "To the newest messages");
    the("latest").querySelector("span").textContent = this.#missed ? `${this.#missed} new` : "";
    if (this.atBottom) this.#page.read();
  }

  /** An entry has come, and is not shown yet. */
  came({ from, seq }) {
    const { loaded, newest, user } = this.#thread;
    if (from !== user && loaded && seq > newest && !this.atBottom) this.#missed += 1;
  }

  #stuck = true; // at the bottom, and to stay there whatever grows
  #stay() {
    if (this.#stuck && this.#thread) this.#parts().scroller.scrollTop = 1e9;
  }

  /** Brings the page in line with what is known; what the user is looking at stays where it is. */
  draw({ bottom = false } = {}) {
    const thread = this.#thread;
    if (thread === null || thread.peer !== this.#page.peer) return; // on a phone, the list is there instead
    const { scroller, messages } = this.#parts();
    const stick = bottom || (this.atBottom && !thread.newer);
    const anchor = stick ? null : this.#firstVisible();
    const before = anchor?.getBoundingClientRect().top;

    let next = messages.firstChild;
    const put = (element) => {
      if (element === next) next = next.nextSibling;
      else messages.insertBefore(element, next);
    };
    let previous = null;
    let day = { from: 0, to: 0 };
    const drawn = new Set();
    for (const message of thread.messages) {
      const first = message.at < day.from || message.at >= day.to;
      if (first) {
        day = dayOf(message.at);
        if (!this.#days.has(day.called)) this.#days.set(day.called, make("li", { class: "day" }, day.called));
        put(this.#days.get(day.called));
      }
      const joined = !first && previous?.from === message.from && message.at - previous.at < TOGETHER;
      put(this.#element(message, joined));
      drawn.add(message.key);
      previous = message;
    }
    while (next) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
    if (drawn.size < this.#drawn.size) for (const key of this.#drawn.keys()) if (!drawn.has(key)) this.#drawn.delete(key);
    const focusable = messages.querySelector('.message[tabindex="0"]');
    if (!focusable) messages.querySelector(".message:last-child")?.setAttribute("tabindex", "0");

    if (stick) scroller.scrollTop = 1e9;
    else if (anchor?.isConnected) scroller.scrollTop += anchor.getBoundingClientRect().top - before;
    this.#stuck = stick;
    this.#draw_past();
    this.drawPeer();
  }

  #draw_past() {
    const { loaded, older, messages } = this.#thread;
    const waiting = this.#loading === this.#thread;
    const offline = this.#page.chat.state !== "open";
    const loading = offline ? "What was said before comes with the connection." : "Loading…";
    const begins = this.#page.gap ? "What was said before is no longer kept." : "This is where it begins.";
    say("past", waiting || !loaded ? loading : older ? "" : messages.length ? begins : "Nothing here yet. Say hello!");
  }

  #firstVisible() {
    const { scroller, messages } = this.#parts();
    const { top } = scroller.getBoundingClientRect();
    let [low, high] = [0, messages.children.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (messages.children[middle].getBoundingClientRect().bottom < top) low = middle + 1;
      else high = middle;
    }
    const first = messages.children[low];
    return first?.matches(".day") ? first.nextElementSibling : (first ?? null); // a day moves to what is loaded before it
  }

  #element(message, joined) {
    const { conversations, peer } = this.#page;
    const progress = message.own ? conversations.progress(peer, message) : "";
    const shown = message.pending ? "sending" : progress;
    const answered = message.replyTo ? this.#thread.find(message.replyTo) : null;
    const { version } = message;
    const quoted = answered?.version;
    const known = this.#drawn.get(message.key);
    if (known?.version === version && known.shown === shown && known.joined === joined && known.quoted === quoted) return known.element;
    const element = known?.element ?? make("li", { tabIndex: -1 });
    const had = this.#holder === element;
    const failed = shown === "refused" || shown === "unknown";
    const text = message.pending?.type === "delete" ? null : (message.pending?.text ?? message.text);
    const said = `${message.editedAt && !message.deleted ? "edited " : ""}${timeOf(message.at)}`;
    const classes = ["message", message.own && "own", joined && "joined", failed ? "failed" : shown === "sending" && "sending"];
    const jumbo = text !== null && text.length < 40 && JUMBO.test(text) && [...new Intl.Segmenter().segment(text)].length <= 3;
    element.className = [...classes, jumbo && "jumbo"].filter(Boolean).join(" ");
    element.replaceChildren(
      aside(message.own ? "You: " : `${peer}: `),
      ...(message.replyTo ? [this.#quote(answered)] : []),
      make(
        "div",
        { class: "body", dir: "auto" },
        // The end of the text keeps room for what stands there: a copy of it that is not to be seen.
        make("span", { class: `text${text === null ? " gone" : ""}`, "data-meta": said }, text ?? "Message deleted"),
        make(
          "span",
          { class: "meta", dir: "ltr" },
          make("time", { dateTime: new Date(message.at).toISOString() }, said),
          ...(message.own ? [tick(shown)] : []),
        ),
      ),
      ...(failed ? [make("p", { class: "why" }, `${shown === "refused" ? "Not sent" : "Perhaps not sent"}: ${message.why.message}`)] : []),
    );
    this.#drawn.set(message.key, { element, version, shown, joined, quoted, message });
    if (had) this.#hold(element, true);
    return element;
  }

  #quote(answered) {
    if (!answered) return make("div", { class: "quote" }, make("p", {}, "An earlier message"));
    const who = answered.own ? "You" : this.#thread.peer;
    const quote = make("button", { class: "quote", type: "button", title: "Go there" }, aside("In answer to "));
    quote.append(make("strong", {}, name(who)), make("p", { dir: "auto" }, (answered.text ?? "Message deleted").slice(0, 200)));
    quote.addEventListener("click", () => answered.seq && this.#jump(answered.seq));
    return quote;
  }

  #message(element) {
    return [...this.#drawn.values()].find((known) => known.element === element)?.message;
  }

  /** Gives the tools to a message, or takes them away. */
  #hold(element, again = false) {
    if (element === this.#holder && !again) return;
    this.#holder = element;
    this.#tools.remove();
    const message = element && this.#message(element);
    if (!message || message.pending || message.state === "sending" || (message.deleted && message.state === "stored")) return;
    const tool = (what, label, act) => {
      const button = make("button", { class: "tool", type: "button", "aria-label": label, title: label }, icon(`i-${what}`));
      button.addEventListener("click", (event) => {
        event.stopPropagation();
        this.#hold(null);
        act();
      });
      return button;
    };
    const { composer } = this.#page;
    const tools = [];
    if (message.state === "stored") {
      tools.push(tool("reply", "Reply", () => composer.reply(message)));
      if (message.own) tools.push(tool("edit", "Edit", () => composer.edit(message)), tool("delete", "Delete", () => composer.remove(message)));
    } else {
      tools.push(tool("edit", "Write it again", () => composer.again(message)));
    }
    this.#tools.replaceChildren(...tools);
    element.append(this.#tools);
  }

  /** From message to message by the arrow keys: one of them at a time is in the tab order. */
  #walk(event) {
    const element = event.target.closest(".message");
    if (!element || event.target.closest(".tools")) return;
    const all = [...the("messages").querySelectorAll(".message")];
    const k = all.indexOf(element);
    const to = { ArrowUp: all[k - 1], ArrowDown: all[k + 1], Home: all[0], End: all.at(-1) }[event.key];
    if (!to) return;
    event.preventDefault();
    the("messages").querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
    to.tabIndex = 0;
    to.focus();
  }

  /** Who it is with, and what they are doing. */
  drawPeer() {
    const { user, peer, conversations, blocked } = this.#page;
    const { presence, typing } = conversations.get(peer);
    say("peer", peer);
    the("face").replaceChildren(peer === user ? avatar(peer) : face(peer, presence));
    the("messages").setAttribute("aria-label", `Messages with ${peer}`);
    const line = typing ? "typing…" : presence?.online ? "online" : presence?.last_seen ? lastSeen(presence.last_seen) : "";
    say("presence", peer === user ? "notes to yourself" : line);
    the("presence").className = typing ? "typing" : "";
    const isBlocked = blocked.has(peer);
    the("block").textContent = isBlocked ? `Unblock ${peer}` : `Block ${peer}`;
    the("block").hidden = peer === user;
    the("other").textContent = `Open this as ${peer}, in a new tab`;
    the("other").href = address(peer, user);
    the("composer").hidden = isBlocked;
    the("blocked").hidden = !isBlocked;
    the("blocked").querySelector("p").textContent = `You have blocked ${peer}. What they send does not reach you.`;
  }
}
