// What the page knows of conversations and messages.

import assert from "node:assert/strict";
import test from "node:test";
import { entry, load } from "./fakes.mjs";

const { Conversations, Thread } = await load("model.js");

const seqs = (thread) => thread.messages.map(({ seq }) => seq);
const texts = (thread) => thread.messages.map(({ text }) => text);

function loaded(...entries) {
  const thread = new Thread("alice", "bob");
  thread.begin();
  thread.add(entries);
  thread.loaded = true;
  thread.end();
  return thread;
}

test("history and what comes live make one list, each message once", () => {
  const [a, b, c] = [entry(10), entry(12), entry(15)];
  const thread = loaded(c, a, b);
  thread.live(entry(17));
  thread.live(c);
  thread.add([entry(8), a]);
  assert.deepEqual(seqs(thread), [8, 10, 12, 15, 17]);
});

test("what comes while history is on its way is neither lost nor doubled", () => {
  const thread = new Thread("alice", "bob");
  const [old, late] = [entry(1), entry(2)];
  thread.begin();
  thread.live(late);
  thread.live(entry(3, { kind: "edit", target: old.id, text: "better" }));
  assert.deepEqual(seqs(thread), []);
  thread.add([old]); // as it was before both
  thread.loaded = true;
  thread.end();
  assert.deepEqual(texts(thread), ["better", "text 2"]);
});

test("nothing is put where it would hide a hole", () => {
  const thread = loaded(entry(100), entry(101));
  thread.older = true;
  thread.live(entry(50)); // a device that catches up gets what history has not brought yet
  assert.deepEqual(seqs(thread), [100, 101]);
  thread.newer = true;
  thread.live(entry(200));
  assert.deepEqual([thread.oldest, thread.newest], [100, 101]);
});

test("what is far away is given up, and history is asked for it again", () => {
  const thread = loaded(...Array.from({ length: 10 }, (_, k) => entry(k + 1)));
  thread.trim(20);
  assert.equal(thread.older, false);
  const [first] = thread.messages;
  thread.trim(4);
  assert.deepEqual([seqs(thread), thread.older, thread.find(first.id)], [[7, 8, 9, 10], true, undefined]);
});

test("what is not sent yet stands behind everything, in its order, and takes its place when it is stored", () => {
  const thread = loaded(entry(1));
  const drafts = ["a", "b"].map((id) => ({ type: "send", id, to: "bob", text: id }));
  for (const draft of drafts) thread.pending(draft, 5);
  thread.live(entry(3));
  assert.deepEqual(texts(thread), ["text 1", "text 3", "a", "b"]);
  thread.stored({ ...drafts[0], seq: 2, sent_at: 9 });
  assert.deepEqual(texts(thread), ["text 1", "a", "text 3", "b"]);
  assert.deepEqual(thread.messages.map(({ state }) => state), ["stored", "stored", "stored", "sending"]);
  thread.failed(drafts[1], "refused", { code: "not_allowed", message: "no" });
  assert.equal(thread.messages[3].why.message, "no");
  thread.drop(thread.messages[3]);
  assert.equal(thread.messages.length, 3);
  thread.clear();
  assert.deepEqual(seqs(thread), []);
});

test("edits count by their position, whatever the order they come in, and a deletion is for good", () => {
  const mine = entry(1, { from: "alice", to: "bob" });
  const thread = loaded(mine, entry(2));
  const message = thread.find(mine.id);
  const edit = (seq, text, from = "alice") => thread.live(entry(seq, { kind: "edit", from, target: mine.id, text }));
  edit(5, "newer");
  edit(4, "older");
  edit(6, "of somebody else", "bob");
  assert.equal(message.text, "newer");
  thread.add([{ ...mine, text: "older", edit_seq: 4, edited_at: 1 }]); // a page from before the edit
  assert.equal(message.text, "newer");
  const draft = { type: "delete", id: "d", to: "bob", target: mine.id };
  thread.pending(draft);
  assert.equal(message.pending, draft);
  thread.failed(draft, "refused", { message: "no" });
  assert.equal(message.pending, null);
  thread.stored({ ...draft, seq: 7, sent_at: 9 });
  edit(8, "too late");
  thread.add([mine]);
  assert.deepEqual([message.text, message.deleted], [null, true]);
});

test("an own edit shows at once, and is the text when it is stored", () => {
  const mine = entry(1, { from: "alice", to: "bob" });
  const thread = loaded(mine);
  const draft = { type: "edit", id: "e", to: "bob", target: mine.id, text: "better" };
  thread.pending(draft);
  assert.equal(thread.messages[0].pending.text, "better");
  thread.stored({ ...draft, seq: 2, sent_at: 9 });
  assert.deepEqual([thread.messages[0].text, thread.messages[0].pending, thread.messages[0].editedAt], ["better", null, 9]);
});

test("the list has the latest first, counts what is unread, and believes what is newer", () => {
  const rows = new Conversations("alice");
  const last = entry(10);
  assert.equal(rows.add([{ peer: "bob", last, unread: 3, delivered: 0, read: 0, own_read: 4 }]), false);
  rows.message(last); // a device that catches up
  assert.equal(rows.get("bob").unread, 3);
  rows.message(entry(11));
  rows.message(entry(12, { from: "carol" }));
  rows.message(entry(13, { from: "alice", to: "dave" }));
  assert.deepEqual(rows.list().map(({ peer }) => peer), ["dave", "carol", "bob"]);
  assert.equal(rows.unread, 5);
  assert.equal(rows.add([{ peer: "bob", last, unread: 3, delivered: 0, read: 0, own_read: 4 }]), true); // asked before 11 came
  assert.equal(rows.get("bob").last.seq, 11);
  rows.pending({ type: "send", id: "x", to: "bob", text: "hi" }, 1);
  assert.equal(rows.list()[0].peer, "bob");
  rows.stored({ type: "send", id: "x", to: "bob", text: "hi", seq: 14, sent_at: 2 });
  assert.equal(rows.get("bob").last.seq, 14);
});

test("what was read elsewhere is not counted, and what is left is asked for", () => {
  const rows = new Conversations("alice");
  rows.message(entry(5));
  rows.message(entry(6));
  assert.equal(rows.read("bob", 5), false); // one is left, or more: only the server knows
  assert.equal(rows.read("bob", 6), true);
  assert.equal(rows.get("bob").unread, 0);
  assert.equal(rows.read("bob", 5), true);
});

test("without a connection nobody is there", () => {
  const rows = new Conversations("alice");
  Object.assign(rows.get("bob"), { presence: { online: true, last_seen: null }, typing: true });
  rows.forget();
  assert.deepEqual([rows.get("bob").presence, rows.get("bob").typing], [null, false]);
});

test("ticks: who has read has it delivered, and marks only rise", () => {
  const rows = new Conversations("alice");
  rows.receipt({ peer: "bob", delivered: 4 });
  rows.receipt({ peer: "bob", read: 6 });
  rows.receipt({ peer: "bob", delivered: 2, read: 1 });
  const progress = (seq, state) => rows.progress("bob", { seq, state });
  assert.deepEqual([progress(6), progress(7), progress(null)], ["read", "stored", "sending"]);
  rows.receipt({ peer: "bob", delivered: 7 });
  assert.deepEqual([progress(7), progress(null, "refused"), progress(null, "sending")], ["delivered", "refused", "sending"]);
});

test("an edit or a deletion of the last message shows in the list", () => {
  const rows = new Conversations("alice");
  const last = entry(5);
  rows.message(last);
  rows.changed({ from: "bob", to: "alice", target: last.id, text: "better" });
  assert.equal(rows.get("bob").last.text, "better");
  rows.changed({ from: "alice", to: "bob", target: last.id, text: "not his" });
  rows.changed({ from: "bob", to: "alice", target: last.id });
  assert.equal(rows.get("bob").last.text, null);
});
