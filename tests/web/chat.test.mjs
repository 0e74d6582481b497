// What trio-chat.js sends, holds, acknowledges and asks.

import assert from "node:assert/strict";
import test from "node:test";
import { entry, FEATURES, heard, LIMITS, load, messages, settled, world } from "./fakes.mjs";

const { connect } = await load("trio-chat.js");
const { MemoryStorage } = await load("trio-chat-storage.js");

/** Storage that writes when it is told to. */
class Slow extends MemoryStorage {
  writes = [];

  write(change) {
    return new Promise((resolve, reject) => this.writes.push({ change, resolve, reject }));
  }
}

async function start(w, { storage = new MemoryStorage("web"), welcome = {}, ...options } = {}) {
  const chat = await connect({ url: "ws://host/ws", user: "alice", storage, ...options });
  await settled();
  await w.socket.welcome(welcome);
  return chat;
}

async function again(w, welcome = {}) {
  const before = w.sockets.length;
  w.socket.end(1006);
  while (w.sockets.length === before) await w.clock.pass(0.5);
  await w.socket.welcome(welcome);
}

const stored = (...items) => ({ type: "stored", messages: items.map(([id, seq]) => ({ id, seq, sent_at: 5_000 + seq })) });

test("a message is sent when it is safe, and forgotten when it is stored", async (t) => {
  const w = world(t);
  const storage = new Slow("web");
  const chat = await start(w, { storage });
  storage.writes.pop().resolve(); // of the welcome
  const events = heard(chat, "stored", "empty");
  const id = chat.send("bob", "hi", { replyTo: "x" });
  assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  await settled();
  assert.deepEqual(storage.writes[0].change.put, [{ type: "send", id, to: "bob", text: "hi", reply_to: "x" }]);
  assert.deepEqual(w.socket.of("send"), []);
  storage.writes.shift().resolve();
  await settled();
  assert.deepEqual(w.socket.of("send"), [{ type: "send", id, to: "bob", text: "hi", reply_to: "x" }]);
  await w.socket.says(stored([id, 1]));
  assert.deepEqual(storage.writes[0].change, { put: [], remove: [id], position: { log: "L-0", after: 1 } });
  assert.deepEqual(w.socket.of("ack"), []); // not before that is safe
  storage.writes.shift().resolve();
  await settled();
  assert.deepEqual(w.socket.of("ack"), [{ type: "ack", seq: 1 }]);
  assert.deepEqual(
    events.map(([type, { seq, text }]) => [type, seq, text]),
    [["stored", 1, "hi"], ["empty", undefined, undefined]],
  );
});

test("storage that fails is told of, and the message goes out all the same", async (t) => {
  const w = world(t);
  const storage = new Slow("web");
  const chat = await start(w, { storage });
  const events = heard(chat, "notice");
  chat.send("bob", "hi");
  await settled();
  for (const { reject } of storage.writes) reject(new Error("QuotaExceededError"));
  await settled();
  assert.equal(w.socket.of("send").length, 1);
  assert.equal(events[0][1].code, "storage");
});

test("what has no answer is sent again on the next connection, in order and under its id", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const ids = ["one", "two", "three"].map((text) => chat.send("bob", text));
  await settled();
  await w.socket.says(stored([ids[0], 1]));
  await again(w);
  assert.deepEqual(w.socket.of("send").map(({ id }) => id), ids.slice(1));
});

test("an own entry settles a message whose answer was lost", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const events = heard(chat, "stored", "message");
  const id = chat.send("bob", "hi");
  await settled();
  w.socket.end(1006);
  await w.clock.pass(1);
  w.socket.open();
  const welcome = { type: "welcome", user: "alice", device: "web", log: "L-0", head: 1, floor: 0, cursor: 0, new: false };
  w.socket.say({ ...welcome, features: FEATURES, limits: LIMITS });
  await w.socket.says(messages(entry(1, { id, from: "alice", to: "bob", text: "hi" })));
  assert.deepEqual(events.map(([type, event]) => [type, event.id]), [["stored", id]]);
  assert.deepEqual(chat.outbox, []);
});

test("at most 50 are without an answer, and the next goes when one has come", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const ids = Array.from({ length: 60 }, (_, k) => chat.send("bob", `${k}`));
  await settled();
  assert.equal(w.socket.of("send").length, 50);
  await w.socket.says(stored([ids[0], 1]));
  assert.equal(w.socket.of("send").length, 51);
});

test("after a refusal that passes it waits until all is answered and the pause is over, then goes on in order", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const ids = ["a", "b", "c"].map((text) => chat.send("bob", text));
  await settled();
  const refusal = (id) => ({ type: "error", code: "rate_limited", message: "", id, retry_after: 2 });
  await w.socket.says(refusal(ids[1]));
  await w.clock.pass(5);
  assert.equal(w.socket.of("send").length, 3); // a and c are not answered
  await w.socket.says(stored([ids[0], 1]), refusal(ids[2]));
  await w.clock.pass(1.9);
  assert.equal(w.socket.of("send").length, 3);
  await w.clock.pass(0.2);
  assert.deepEqual(w.socket.of("send").slice(3).map(({ id }) => id), ids.slice(1));
  for (const seconds of [2, 4, 8]) { // again and again, and nothing stored between: it waits longer each time
    const sent = w.socket.of("send").length;
    await w.socket.says(refusal(ids[1]), refusal(ids[2]));
    await w.clock.pass(seconds - 0.1);
    assert.equal(w.socket.of("send").length, sent);
    await w.clock.pass(0.2);
    assert.equal(w.socket.of("send").length, sent + 2);
  }
});

test("a full mailbox holds up nobody else", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const [toBob, toCarol] = [chat.send("bob", "1"), chat.send("carol", "2")];
  await settled();
  const refusal = (id) => ({ type: "error", code: "mailbox_full", message: "", id, retry_after: 1 });
  await w.socket.says(refusal(toBob), refusal(toCarol));
  await w.clock.pass(1.1);
  const [, , first, second] = w.socket.of("send").map(({ id }) => id);
  assert.deepEqual([first, second], [toCarol, toBob]); // bob's behind the rest, to see whether there is room
  await w.socket.says(stored([toCarol, 1]), refusal(toBob));
  await w.clock.pass(1.9);
  assert.equal(w.socket.of("send").length, 4);
  await w.clock.pass(0.2);
  await w.socket.says(stored([toBob, 2]));
  chat.send("bob", "3");
  chat.send("bob", "4"); // there is room again, so not one at a time
  await settled();
  assert.deepEqual(w.socket.of("send").slice(-2).map(({ text }) => text), ["3", "4"]);
});

test("a final refusal is told, as unknown only if an earlier attempt may have been stored", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const events = heard(chat, "refused", "unknown");
  const id = chat.send("bob", "hi");
  await settled();
  await w.socket.says({ type: "error", code: "not_allowed", message: "no", id });
  const other = chat.send("bob", "ho");
  await settled();
  await again(w);
  await w.socket.says({ type: "error", code: "not_allowed", message: "no", id: other });
  assert.deepEqual(
    events.map(([type, event]) => [type, event.id, event.code]),
    [["refused", id, "not_allowed"], ["unknown", other, "not_allowed"]],
  );
});

test("what is too long is not sent, for it would end the connection", async (t) => {
  const w = world(t);
  const chat = await start(w, { welcome: { limits: { ...LIMITS, text_bytes: 10, frame_bytes: 200 } } });
  const events = heard(chat, "refused");
  chat.send("bob", "ééééé!");
  chat.send("b".repeat(128), "\u0001".repeat(9));
  chat.send("bob", "short");
  await settled();
  assert.deepEqual(events.map(([, { code }]) => code), ["too_large", "too_large"]);
  assert.deepEqual(w.socket.of("send").map(({ text }) => text), ["short"]);
});

test("what cannot be sent is refused at once, and half a character is mended", async (t) => {
  const w = world(t);
  const chat = await start(w);
  assert.throws(() => chat.send("", "hi"), RangeError);
  assert.throws(() => chat.send("a\nb", "hi"), RangeError);
  assert.throws(() => chat.send("😀".repeat(129), "hi"), RangeError);
  assert.throws(() => chat.send("bob", ""), RangeError);
  assert.throws(() => chat.edit("bob", "x", "a\0b"), RangeError);
  chat.send("😀".repeat(128), "😀".slice(0, 1));
  await settled();
  assert.deepEqual(w.socket.of("send").map(({ text }) => text), ["\ufffd"]);
});

test("edits and deletions go the way of messages", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const events = heard(chat, "stored", "edit", "delete", "message");
  const edit = chat.edit("bob", "m1", "better");
  const removal = chat.delete("bob", "m1");
  await settled();
  assert.deepEqual(w.socket.sent.slice(-2), [
    { type: "edit", id: edit, to: "bob", target: "m1", text: "better" },
    { type: "delete", id: removal, to: "bob", target: "m1" },
  ]);
  await w.socket.says(stored([edit, 1], [removal, 2]));
  const theirs = [entry(3, { kind: "edit", target: "m2" }), entry(4, { kind: "delete", target: "m2", text: null }), entry(5, { kind: "poke" })];
  await w.socket.says(messages(...theirs));
  assert.deepEqual(events.map(([type]) => type), ["stored", "stored", "edit", "delete"]);
  assert.deepEqual(w.socket.of("ack").at(-1), { type: "ack", seq: 5 }); // what it does not know counts, too [L5]
});

test("it acknowledges what it holds without a hole, cumulatively", async (t) => {
  const w = world(t);
  const chat = await start(w, { welcome: { cursor: 10, head: 10 } });
  const id = chat.send("bob", "hi");
  await settled();
  await w.socket.says(stored([id, 13])); // 11 and 12 are on their way
  assert.deepEqual(w.socket.of("ack"), []);
  await w.socket.says(messages(entry(11)));
  assert.deepEqual(w.socket.of("ack"), [{ type: "ack", seq: 11 }]);
  await w.socket.says(messages(entry(12)), { type: "gap", from: 14, to: 20 }, messages(entry(21)));
  assert.deepEqual(w.socket.of("ack").at(-1), { type: "ack", seq: 21 });
});

test("an ack of one connection is not made up for on another", async (t) => {
  const w = world(t);
  const storage = new Slow("web");
  const chat = await start(w, { storage });
  for (const { resolve } of storage.writes.splice(0)) resolve();
  await w.socket.says(messages(entry(1)));
  w.socket.end(1006);
  for (const { resolve } of storage.writes.splice(0)) resolve();
  await w.clock.pass(1);
  assert.equal(w.socket.url.searchParams.get("after"), "1");
  await w.socket.welcome({ cursor: 1, head: 1 });
  for (const { resolve } of storage.writes.splice(0)) resolve();
  await settled();
  assert.deepEqual(w.sockets.flatMap(({ sent }) => sent), []);
  assert.equal(chat.state, "open");

  await w.socket.says(messages(entry(2)));
  const [late] = storage.writes.splice(0);
  await again(w, { log: "M-0", cursor: 0, head: 5 }); // another history, in which 2 is another entry
  late.resolve();
  await settled();
  assert.deepEqual(w.sockets.flatMap(({ sent }) => sent), []);
});

test("what comes again is not shown again, within a history and over the change to another", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const events = heard(chat, "message", "welcome");
  const [one, two] = [entry(1), entry(2)];
  await w.socket.says(messages(one, two));
  await again(w, { cursor: 0, head: 2 }); // a server that was restored
  await w.socket.says(messages(one, two));
  await again(w, { log: "M-0", cursor: 0, head: 2 });
  await w.socket.says(messages({ ...one, seq: 1 }, entry(2, { text: "new" })));
  assert.deepEqual(
    events.map(([type, event]) => [type, event.text ?? event.reset]),
    [["message", "text 1"], ["message", "text 2"], ["welcome", true], ["welcome", true], ["message", "new"]],
  );
  await again(w, { log: "M-0", head: 2 });
  assert.deepEqual([w.socket.url.searchParams.get("log"), w.socket.url.searchParams.get("after")], ["M-0", "2"]);
  assert.equal(events.at(-1)[1].reset, false);
});

test("acks may be the application's", async (t) => {
  const w = world(t);
  const chat = await start(w, { acks: "manual", welcome: { cursor: 5, head: 5 } });
  await w.socket.says(messages(entry(6), entry(7), entry(8)));
  assert.deepEqual(w.socket.of("ack"), []);
  chat.ack(7);
  chat.ack(6);
  await settled();
  assert.deepEqual(w.socket.of("ack"), [{ type: "ack", seq: 7 }]);
  await again(w);
  assert.equal(w.socket.url.searchParams.get("after"), "7");
});

test("a listener that fails, or that is gone, is nobody's loss", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const failures = [];
  const catching = (error) => failures.push(error.message);
  process.setUncaughtExceptionCaptureCallback(catching);
  t.after(() => process.setUncaughtExceptionCaptureCallback(null));
  const off = chat.on("message", () => assert.fail("it was taken off"));
  off();
  chat.on("message", () => {
    throw new Error("the page's");
  });
  const events = heard(chat, "message");
  await w.socket.says(messages(entry(1)));
  assert.equal(events.length, 1);
  assert.deepEqual(failures, ["the page's"]);
  assert.equal(w.socket.of("ack").length, 1);
});

test("questions get their own answers, over a reconnect, four at a time", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const asked = Array.from({ length: 6 }, (_, k) => chat.history({ peer: `p${k}` }));
  await settled();
  assert.equal(w.socket.of("history").length, 4);
  const answer = ({ ref, peer }) => ({ type: "history", ref, messages: [], more: false, next: null, peer });
  await w.socket.says(answer(w.socket.of("history")[1]));
  assert.equal((await asked[1]).peer, "p1");
  await again(w);
  assert.deepEqual(w.socket.of("history").map(({ peer }) => peer), ["p0", "p2", "p3", "p4"]);
  for (let k = 0; k < 5; k += 1) await w.socket.says(answer(w.socket.of("history")[k]));
  assert.deepEqual((await Promise.all(asked)).map(({ peer }) => peer), ["p0", "p1", "p2", "p3", "p4", "p5"]);
});

test("a question is refused, put off, unknown to an older server, or no longer of interest", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const refused = chat.history({ limit: 0 });
  await settled();
  const say = (changes) => w.socket.says({ type: "error", message: "", ref: w.socket.of("history").at(-1).ref, ...changes });
  await Promise.all([assert.rejects(refused, { code: "bad_query" }), say({ code: "bad_query" })]);
  const put = chat.history();
  await settled();
  await say({ code: "overloaded", retry_after: 1 });
  await w.clock.pass(1.1);
  assert.equal(w.socket.of("history").length, 3);
  await w.socket.says({ type: "history", ref: w.socket.of("history").at(-1).ref, messages: [], more: false, next: null });
  assert.equal((await put).more, false);
  await assert.rejects(chat.search({ query: "x" }), { code: "unsupported" });
  const giveUp = new AbortController();
  const aborted = chat.history({}, { signal: giveUp.signal });
  giveUp.abort();
  await assert.rejects(aborted, { code: "aborted" });
  await assert.rejects(chat.history({}, { signal: giveUp.signal }), { code: "aborted" });
  const open = chat.blocks();
  await settled();
  w.socket.end(4401);
  await assert.rejects(open, { code: "stopped" });
});

test("what is about push has the shape that the protocol gives it", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const asked = [
    chat.push(), chat.registerPush("fcm", "token", "secret"), chat.unregisterPush(), chat.unregisterPush("fcm"), chat.mute("eve"),
    chat.unmute("eve"), chat.setQuiet(true),
  ];
  const kinds = ["push", "push_register", "push_unregister", "push_unregister", "mute", "unmute", "quiet"];
  const fields = [{}, { provider: "fcm", kind: "token", target: "secret" }, {}, { provider: "fcm" }, { user: "eve" }, { user: "eve" }, { quiet: true }];
  for (const [n, request] of asked.entries()) {
    await settled();
    const frame = w.socket.of(kinds[n]).at(kinds[n] === "push_unregister" ? n - 2 : -1);
    const { type, ref, ...rest } = frame;
    assert.equal(type, kinds[n]);
    assert.deepEqual(rest, fields[n]);
    await w.socket.says({ type: "push", ref, providers: [], targets: [], muted: [], quiet: n === 6 });
    assert.equal((await request).quiet, n === 6);
  }
});

test("errors that are about nothing are told; a fault of the client's own ends it", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const events = heard(chat, "notice");
  await w.socket.says({ type: "error", code: "cursor_ahead", message: "" });
  assert.equal(events[0][1].code, "cursor_ahead");
  await w.socket.says({ type: "novelty" }); // of a newer server
  assert.equal(chat.state, "open");
  await w.socket.says({ type: "error", code: "bad_frame", message: "" });
  assert.equal(chat.state, "stopped");
});

test("read marks and whom to watch outlive the connection; typing does not, and is not said for every key", async (t) => {
  const w = world(t);
  const chat = await start(w);
  chat.watch(["bob"]);
  chat.typing("bob", false);
  chat.typing("bob", true);
  chat.typing("bob", true);
  await w.clock.pass(5.1);
  chat.typing("bob", true);
  chat.typing("bob", false);
  assert.deepEqual(w.socket.of("typing").map(({ typing }) => typing), [true, true, false]);
  assert.equal(w.socket.of("watch").length, 1);
  w.socket.end(1006);
  chat.read("bob", 4);
  chat.read("bob", 3);
  await w.clock.pass(1);
  await w.socket.welcome({ head: 4 });
  assert.deepEqual(w.socket.of("read"), [{ type: "read", peer: "bob", seq: 4 }]);
  assert.deepEqual(w.socket.of("watch").map(({ users }) => users), [["bob"]]);
  assert.deepEqual(w.socket.of("typing"), []);
  chat.read("bob", 4);
  await settled();
  assert.equal(w.socket.of("read").length, 1);
  await w.socket.says({ type: "error", code: "overloaded", message: "", retry_after: 1 });
  await w.clock.pass(1.1);
  assert.deepEqual(w.socket.of("read").map(({ seq }) => seq), [4, 4]);
});

test("what others do is told as it comes", async (t) => {
  const w = world(t);
  const chat = await start(w);
  const events = heard(chat, "receipt", "read", "typing", "presence", "gap");
  const frames = [
    { type: "receipt", peer: "bob", delivered: 4 },
    { type: "read", peer: "bob", seq: 3 },
    { type: "typing", from: "bob", typing: true },
    { type: "presence", user: "bob", online: true, last_seen: null },
    { type: "gap", from: 1, to: 2 },
  ];
  await w.socket.says(...frames);
  assert.deepEqual(events.map(([, event]) => event), frames);
});
