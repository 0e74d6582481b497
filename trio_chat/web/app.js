// The page: who one is, what is open, and what happens when the server or the user says something.

import { connect } from "./trio-chat.js";
import { Composer } from "./composer.js";
import { icon, make, the } from "./dom.js";
import { Conversations, Thread } from "./model.js";
import { address, drawMe, drawResults, drawSidebar } from "./sidebar.js";
import { ThreadView } from "./thread.js";

const NAME = /^[^\u0000-\u001f\u007f-\u009f]{1,128}$/u;
const TYPING_ENDS = 10_000; // ms after the last sign of it
const WATCHED = 200;

/** What the address says: who, with whom, and at which message. */
function place() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const valid = (text) => (text && NAME.test(text) ? text : null);
  return { user: valid(parameters.get("user")), peer: valid(parameters.get("with")), at: Number(parameters.get("at")) || null };
}

class Page {
  constructor(user) {
    this.user = user;
    this.peer = null;
    this.conversations = new Conversations(user);
    this.threads = new Map();
    this.blocked = new Set();
    this.gap = false; // whether the server has told of messages that it no longer holds
    this.listed = false; // whether the server has said which conversations there are
    this.offered = false; // whether it was asked if the user wants to be notified
    this.chat = null;
    this.view = null;
    this.composer = null;
  }

  async open() {
    const url = `/ws?${new URLSearchParams({ user: this.user })}`; // what `trio-chat serve --demo` believes
    this.chat = await connect({ url, user: this.user });
    this.view = new ThreadView(this);
    this.composer = new Composer(this);
    this.#listen();
    for (const draft of this.chat.outbox) this.conversations.pending(draft, Date.now());
    drawMe(this);
    this.draw();
    await this.go();
  }

  #listen() {
    const { chat, conversations } = this;
    const changed = (event) => {
      this.#thread(event)?.live(event);
      if (event.kind !== "message" && event.kind !== undefined) conversations.changed(event);
      this.draw();
    };
    chat.on("welcome", ({ reset }) => this.#welcome(reset));
    chat.on("message", (entry) => {
      const before = conversations.get(entry.from === this.user ? entry.to : entry.from).last;
      const row = conversations.message(entry);
      if (entry.from !== this.user && row.last !== before) this.#announce(entry);
      if (row.peer === this.peer) this.view.came(entry);
      changed(entry);
      this.read();
    });
    chat.on("edit", changed);
    chat.on("delete", changed);
    chat.on("stored", (draft) => {
      this.threads.get(draft.to)?.stored(draft);
      conversations.stored(draft);
      this.draw();
    });
    for (const fate of ["refused", "unknown"]) {
      chat.on(fate, (draft) => {
        this.threads.get(draft.to)?.failed(draft, fate, draft);
        const { last } = conversations.get(draft.to);
        if (last?.id === draft.id) last.state = fate;
        this.draw();
      });
    }
    chat.on("receipt", (receipt) => {
      conversations.receipt(receipt);
      this.draw();
    });
    chat.on("read", ({ peer, seq }) => {
      if (!conversations.read(peer, seq)) this.#list();
      this.draw();
    });
    chat.on("typing", ({ from, typing }) => {
      const row = conversations.get(from);
      clearTimeout(row.timer);
      row.typing = typing;
      if (typing) row.timer = setTimeout(() => this.draw((row.typing = false)), TYPING_ENDS);
      this.draw();
    });
    chat.on("presence", ({ user, ...presence }) => {
      conversations.get(user).presence = presence;
      this.draw();
    });
    chat.on("gap", () => this.draw((this.gap = true)));
    chat.on("state", (event) => this.#drawBanner(event));
    addEventListener("hashchange", () => this.go());
    for (const type of ["focus", "visibilitychange"]) addEventListener(type, () => this.read(), true);
    the("block").addEventListener("click", () => this.#block());
    the("blocked").querySelector("button").addEventListener("click", () => this.#block());
    the("menu").addEventListener("focusout", ({ relatedTarget }) => the("menu").contains(relatedTarget) || (the("menu").open = false));
    the("menu").addEventListener("keydown", ({ key }) => key === "Escape" && (the("menu").open = false));
    the("search").addEventListener("input", () => this.#search());
    the("results").addEventListener("click", (event) => {
      if (!event.target.closest("a")) return;
      the("search").value = "";
      this.#search();
    });
    setInterval(() => this.draw(), 30_000); // "5 minutes ago"
  }

  /** Connected, again or for the first time. After a reset, what is shown may have holes. */
  async #welcome(reset) {
    if (reset) {
      this.conversations.clear();
      for (const thread of this.threads.values()) thread.clear();
      for (const draft of this.chat.outbox) this.conversations.pending(draft, Date.now());
    }
    if (this.threads.get(this.peer)?.loaded === false) this.view.load();
    this.draw();
    if (!this.offered && this.chat.supports("push")) {
      this.offered = true;
      import("./notify.js").then(({ offer }) => offer(this)).catch(ignore);
    }
    this.chat.blocks().then((users) => this.draw((this.blocked = new Set(users))), ignore);
    await this.#list();
  }

  async #list() {
    try {
      const { conversations } = await this.chat.conversations({ limit: WATCHED });
      if (this.conversations.add(conversations)) setTimeout(() => this.#list(), 500);
      this.listed = true;
      this.read();
      this.draw();
    } catch (error) {
      ignore(error);
    }
  }

  #thread({ from, to }) {
    return this.threads.get(from === this.user ? to : from);
  }

  /** Goes where the address says. */
  async go() {
    const { user, peer, at } = place();
    if (user !== this.user) return location.reload(); // as somebody else, from the beginning
    this.peer = peer;
    the("app").dataset.view = peer ? "thread" : "list";
    the("thread").classList.toggle("talking", peer !== null);
    the("menu").open = false;
    the("back").href = address(user);
    if (at) history.replaceState(null, "", address(user, peer)); // so that the same link works again
    if (peer !== null) {
      let thread = this.threads.get(peer);
      if (!thread) {
        thread = new Thread(user, peer);
        this.threads.set(peer, thread);
        for (const draft of this.chat.outbox) if (draft.to === peer) thread.pending(draft, Date.now());
      }
      this.composer.show(peer);
      const shown = this.view.show(thread, at);
      if (!at && !matchMedia("(pointer: coarse)").matches) the("text").focus();
      this.draw();
      await shown;
      for (const draft of this.chat.outbox) if (draft.to === peer && draft.target) thread.pending(draft, Date.now());
      this.read();
    }
    this.draw();
  }

  send(to, text, replyTo) {
    const id = this.chat.send(to, text, { replyTo });
    this.#pending({ type: "send", id, to, text, reply_to: replyTo });
    if (this.view.thread.newer) this.view.latest();
  }

  edit(to, target, text) {
    this.#pending({ type: "edit", id: this.chat.edit(to, target, text), to, target, text });
  }

  remove(to, target) {
    this.#pending({ type: "delete", id: this.chat.delete(to, target), to, target });
  }

  #pending(draft) {
    this.threads.get(draft.to).pending(draft, Date.now());
    this.conversations.pending(draft, Date.now());
    this.draw({ bottom: draft.type === "send" });
  }

  /** Takes a message that was not sent off the page. */
  discard(message) {
    this.threads.get(this.peer).drop(message);
    this.draw();
  }

  /** Whatever the user has before their eyes is read. */
  read() {
    const { peer, conversations } = this;
    const thread = this.threads.get(peer);
    if (!thread?.loaded || thread.newer || !this.view.atBottom || !document.hasFocus() || document.hidden) return;
    const seq = thread.messages.findLast(({ own, seq }) => !own && seq !== null)?.seq ?? 0;
    if (seq <= conversations.get(peer).ownRead) return;
    conversations.read(peer, seq);
    conversations.get(peer).unread = 0;
    this.chat.read(peer, seq);
    this.draw();
  }

  #drawing = null;
  /** Draws what has changed, once for everything that happens in a turn. */
  draw({ bottom = false } = {}) {
    if (this.#drawing) {
      this.#drawing.bottom ||= bottom;
      return;
    }
    this.#drawing = { bottom };
    const draw = () => {
      clearTimeout(later);
      cancelAnimationFrame(soon);
      const how = this.#drawing;
      this.#drawing = null;
      drawSidebar(this);
      this.view.draw(how);
      this.#drawBanner();
      this.#watch();
    };
    const soon = requestAnimationFrame(draw);
    const later = setTimeout(draw, 200); // frames do not come while the tab is hidden
  }

  #watched = "";
  #watchedAt = -Infinity;
  /** Presence is told of those whom one has exchanged messages with. So whoever it is not told of is asked for again when they
   * write, or are written to, but not for every message. */
  #watch() {
    const rows = this.conversations.list().slice(0, WATCHED - 1);
    const here = this.peer && !rows.some(({ peer }) => peer === this.peer) ? [this.peer] : [];
    const unknown = rows.filter(({ presence }) => !presence?.online && !presence?.last_seen).map(({ peer, last }) => `${peer} ${last.seq}`);
    const watched = [...here, ...rows.map(({ peer }) => peer).sort()];
    const state = [...watched, ...unknown.sort(), ...this.blocked].join("\0");
    if (state === this.#watched || performance.now() - this.#watchedAt < 1000) return;
    this.#watched = state;
    this.#watchedAt = performance.now();
    this.chat.watch(watched);
    setTimeout(() => this.draw(), 1100); // what has changed meanwhile
  }

  #end = null; // why there is no connection
  #drawBanner(event) {
    if (event?.end) this.#end = event.end;
    if (event?.state === "open") this.#end = null;
    if (event?.end) this.conversations.forget();
    const banner = the("banner");
    const waiting = this.chat.outbox.length;
    const { code, status } = this.#end ?? {};
    let text = "";
    let button = "Try now";
    if (this.#end && this.chat.state !== "stopped") {
      const messages = waiting === 1 ? "1 message is" : `${waiting} messages are`;
      const where = status === 426 ? "The server is there, but WebSockets do not get through to it." : "You are offline.";
      const kept = `kept${this.chat.durable ? "" : " while this tab is open"}`;
      text = `${where} ${waiting ? `${messages} ${kept} here` : `What you write is ${kept}`}, and will be sent when the connection is back.`;
    } else if (this.#end) {
      text = `The server has ended the connection (${status ?? code}).`;
      if (status === 401 || status === 403 || code === 4401) text = "The server does not let you in.";
      if (code === 4409) [text, button] = ["This conversation was opened somewhere else.", "Use it here"];
      if (code === 1008) text = "You have too many tabs and devices open.";
    }
    if (banner.textContent === (text && text + button)) return;
    banner.hidden = text === "";
    if (!text) return banner.replaceChildren();
    const retry = make("button", { type: "button" }, button);
    retry.addEventListener("click", () => this.chat.connect());
    banner.replaceChildren(icon("i-offline"), make("span", {}, text), retry);
  }

  #announce({ from, text }) {
    the("live").textContent = `${from}: ${(text ?? "").slice(0, 200)}`;
  }

  async #block() {
    const { peer } = this;
    the("menu").open = false;
    const answer = this.blocked.has(peer) ? this.chat.unblock(peer) : this.chat.block(peer);
    await answer.then((users) => this.draw((this.blocked = new Set(users))), ignore);
  }

  #seeking = new AbortController();
  /** Looks for what is typed, when that has stopped changing. */
  #search() {
    this.#seeking.abort();
    this.#seeking = new AbortController();
    const { signal } = this.#seeking;
    const query = the("search").value.trim();
    drawSidebar(this);
    if (query === "") return;
    drawResults(this, null);
    setTimeout(() => {
      if (signal.aborted) return;
      this.chat.search({ query, limit: 30 }, { signal }).then(
        ({ hits }) => drawResults(this, hits),
        (error) => error.code !== "aborted" && drawResults(this, []),
      );
    }, 200);
  }
}

/** The connection ended before the answer: the next welcome asks again. */
function ignore(error) {
  if (error.code === undefined) throw error;
}

const { user } = place();
if (user === null) {
  the("start").hidden = false;
  the("who").focus();
  the("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = the("who").value.trim();
    if (NAME.test(name)) location.hash = address(name);
  });
  addEventListener("hashchange", () => location.reload());
} else {
  the("app").hidden = false;
  new Page(user).open();
}
