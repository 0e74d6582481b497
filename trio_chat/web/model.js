// What the page knows of conversations and messages. It draws nothing and asks nothing, so that it can be tested by itself.

const key = (from, id) => `${from}\0${id}`;

/** The conversation with one peer, as far as it was loaded: without holes from the oldest message to the newest. */
export class Thread {
  constructor(user, peer) {
    this.user = user;
    this.peer = peer;
    this.messages = []; // by seq; behind them those that have none yet, in the order in which they were written
    this.known = new Map();
    this.loaded = false;
    this.older = false; // whether there is more before the first
    this.newer = false; // whether there is more behind the last that has a seq: after a jump into the past
    this.early = null; // what came while history was on its way, which may not know it
  }

  /** History was asked for. */
  begin() {
    this.early ??= [];
  }

  /** It has come, or will not. */
  end() {
    const early = this.early ?? [];
    this.early = null;
    for (const entry of early) this.live(entry);
  }

  get oldest() {
    return this.messages.find(({ seq }) => seq !== null)?.seq ?? Infinity;
  }

  get newest() {
    return this.messages.findLast(({ seq }) => seq !== null)?.seq ?? 0;
  }

  /** By its id: the peer's, else one's own. */
  find(id) {
    return this.known.get(key(this.peer, id)) ?? this.known.get(key(this.user, id));
  }

  /** Forgets what is stored; what is not stays. */
  clear() {
    this.messages = this.messages.filter(({ seq }) => seq === null);
    this.known = new Map(this.messages.map((message) => [message.key, message]));
    Object.assign(this, { loaded: false, older: false, newer: false });
  }

  /** Forgets all but the newest, which history can bring back: thousands of messages make a page slow. */
  trim(keep) {
    const cut = this.messages.splice(0, Math.max(0, this.messages.length - keep));
    for (const { key } of cut) this.known.delete(key);
    this.older ||= cut.length > 0;
  }

  /** A page of history. */
  add(entries) {
    for (const entry of entries) this.#put(entry);
    this.#sort();
  }

  /** What has just come. Whatever would leave a hole before or behind it is left for history to bring. */
  live(entry) {
    this.early?.push(entry);
    if (entry.kind === "edit") return this.edit(entry);
    if (entry.kind === "delete") return this.remove(entry);
    if (!this.loaded || (this.older && entry.seq < this.oldest) || (this.newer && entry.seq > this.newest)) return;
    this.#put(entry);
    this.#sort();
  }

  /** Something in the outbox: a new message, or what is to become of an old one. */
  pending(draft, at) {
    if (draft.type === "send") {
      const entry = { ...draft, seq: null, from: this.user, sent_at: at };
      this.#put(entry).state = "sending";
      return;
    }
    const message = this.known.get(key(this.user, draft.target));
    if (!message) return;
    message.pending = draft;
    message.version += 1;
  }

  /** The outbox has lost this draft: it is stored at `seq`. */
  stored(draft) {
    const { id, seq, sent_at, text } = draft;
    if (draft.type === "edit") return this.edit({ from: this.user, target: draft.target, text: draft.text, seq, sent_at }, id);
    if (draft.type === "delete") return this.remove({ from: this.user, target: draft.target });
    const message = this.known.get(key(this.user, id));
    if (!message || (this.newer && seq > this.newest)) return;
    Object.assign(message, { seq, at: sent_at, text, state: "stored", version: message.version + 1 });
    this.#sort();
  }

  /** It was not stored, or nobody knows. */
  failed(draft, fate, why) {
    const message = this.known.get(key(this.user, draft.target ?? draft.id));
    if (!message) return;
    if (draft.type === "send") Object.assign(message, { state: fate, why });
    else message.pending = null;
    message.version += 1;
  }

  /** Takes a message that was not sent off the page. */
  drop(message) {
    this.known.delete(message.key);
    this.messages = this.messages.filter((other) => other !== message);
  }

  /** Applied only if it is newer than what is shown [L5]. */
  edit({ from, target, text, seq, sent_at }, id) {
    const message = this.known.get(key(from, target));
    if (!message) return;
    if (message.pending?.id === id) message.pending = null;
    if (!message.deleted && seq > (message.editSeq ?? 0)) Object.assign(message, { text, editSeq: seq, editedAt: sent_at });
    message.version += 1;
  }

  remove({ from, target }) {
    const message = this.known.get(key(from, target));
    if (!message) return;
    Object.assign(message, { text: null, deleted: true, pending: null, version: message.version + 1 });
  }

  #put(entry) {
    const name = key(entry.from, entry.id);
    let message = this.known.get(name);
    if (!message) {
      message = { key: name, id: entry.id, from: entry.from, own: entry.from === this.user, version: 0, pending: null };
      Object.assign(message, { editSeq: null, editedAt: null, deleted: false });
      this.known.set(name, message);
      this.messages.push(message);
    }
    const { seq, text, sent_at, reply_to } = entry;
    // A page may be older than an edit that has come since.
    const stale = message.deleted || (message.editSeq ?? 0) > (entry.edit_seq ?? 0);
    Object.assign(message, { seq, at: sent_at, replyTo: reply_to ?? null, state: "stored", version: message.version + 1 });
    if (!stale) Object.assign(message, { text, editSeq: entry.edit_seq ?? null, editedAt: entry.edited_at ?? null });
    if (text === null || entry.deleted) Object.assign(message, { text: null, deleted: true });
    return message;
  }

  #sort() {
    const at = ({ seq }) => seq ?? Infinity;
    this.messages.sort((a, b) => (at(a) === at(b) ? 0 : at(a) - at(b))); // stable: what has no seq keeps its order
  }
}

/** All conversations of a user: what the list shows. */
export class Conversations {
  constructor(user) {
    this.user = user;
    this.all = new Map();
  }

  get(peer) {
    const known = this.all.get(peer);
    if (known) return known;
    const row = { peer, last: null, unread: 0, delivered: 0, read: 0, ownRead: 0, presence: null, typing: false };
    this.all.set(peer, row);
    return row;
  }

  /** Without a connection, nothing is known of who is there and what they do. */
  forget() {
    for (const row of this.all.values()) Object.assign(row, { presence: null, typing: false });
  }

  /** Those with messages, the latest first. */
  list() {
    const at = ({ last }) => last.seq ?? Infinity;
    return [...this.all.values()].filter(({ last }) => last).sort((a, b) => (at(a) === at(b) ? 0 : at(b) - at(a)));
  }

  get unread() {
    return [...this.all.values()].reduce((sum, { unread }) => sum + unread, 0);
  }

  clear() {
    for (const row of this.all.values()) Object.assign(row, { last: null, unread: 0, delivered: 0, read: 0, ownRead: 0 });
  }

  /** As the server lists them. What has come since then is newer than the list; then it is true, and how many are unread a guess. */
  add(conversations) {
    let late = false;
    for (const { peer, last, unread, delivered, read, own_read } of conversations) {
      const row = this.get(peer);
      if (last && (row.last === null || (row.last.seq ?? Infinity) <= last.seq)) Object.assign(row, { last, unread });
      else if (last) late = true;
      this.receipt({ peer, delivered, read });
      row.ownRead = Math.max(row.ownRead, own_read);
    }
    return late;
  }

  message(entry) {
    const peer = entry.from === this.user ? entry.to : entry.from;
    const row = this.get(peer);
    if (row.last?.seq >= entry.seq) return row; // it comes again, or the list knew it
    row.last = entry;
    if (entry.from !== this.user) Object.assign(row, { unread: row.unread + 1, typing: false });
    return row;
  }

  /** A message that is to be sent. */
  pending(draft, at) {
    if (draft.type === "send") this.get(draft.to).last = { ...draft, seq: null, from: this.user, sent_at: at };
  }

  stored(draft) {
    const row = this.get(draft.to);
    if (draft.type === "send" && (row.last?.id === draft.id || !row.last)) row.last = { ...draft, from: this.user };
    if (draft.type !== "send") this.changed({ ...draft, from: this.user });
  }

  /** The last message was edited or deleted. */
  changed({ from, to, target, text = null }) {
    const { last } = this.get(from === this.user ? to : from);
    if (last?.id === target && last.from === from) last.text = text;
  }

  /** Watermarks only rise, and who has read has it delivered [R2]. */
  receipt({ peer, delivered = 0, read = 0 }) {
    const row = this.get(peer);
    row.read = Math.max(row.read, read);
    row.delivered = Math.max(row.delivered, delivered, row.read);
  }

  /** The user has read up to here, in this window or another. False if that leaves some of which the number is not known. */
  read(peer, seq) {
    const row = this.get(peer);
    if (seq <= row.ownRead) return true;
    row.ownRead = seq;
    if (row.last === null || seq < (row.last.seq ?? Infinity)) return row.unread === 0;
    row.unread = 0;
    return true;
  }

  /** How far an own message is: sending, stored, delivered, read. */
  progress(peer, { seq, state = "stored" }) {
    if (seq === null || state !== "stored") return state === "stored" ? "sending" : state;
    if (peer === this.user) return "read";
    const { delivered, read } = this.get(peer);
    return seq <= read ? "read" : seq <= delivered ? "delivered" : "stored";
  }
}
