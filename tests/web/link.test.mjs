// How trio-chat.js connects, notices that it is alone, and comes back.

import assert from "node:assert/strict";
import test from "node:test";
import { heard, load, settled, world } from "./fakes.mjs";

const { connect, ChatError } = await load("trio-chat.js");
const { MemoryStorage } = await load("trio-chat-storage.js");

async function start(options = {}) {
  const chat = await connect({ url: "ws://host/ws?user=alice", user: "alice", storage: new MemoryStorage("web"), ...options });
  await settled();
  return chat;
}

test("it says who it is, offers the subprotocol, and then where it stands", async (t) => {
  const w = world(t);
  const chat = await start({ token: "t0k" });
  assert.equal(w.socket.url.href, "ws://host/ws?user=alice&device=web");
  assert.deepEqual(w.socket.protocols, ["trio-chat.v1", "bearer.t0k"]);
  await w.socket.welcome({ cursor: 7, head: 7 });
  assert.equal(chat.state, "open");
  w.socket.end(1006);
  await w.clock.pass(1);
  assert.equal(w.socket.url.search, "?user=alice&device=web&log=L-0&after=7");
});

test("a token may be made anew for each attempt, and failing to make one is tried again", async (t) => {
  const w = world(t);
  let made = 0;
  const token = async () => {
    made += 1;
    if (made === 2) throw new Error("the log-in is away");
    return `t${made}`;
  };
  await start({ token });
  await w.socket.welcome();
  w.socket.end(1006);
  await w.clock.pass(3);
  assert.deepEqual(
    w.sockets.map(({ protocols }) => protocols[1]),
    ["bearer.t1", "bearer.t3"],
  );
});

test("a handshake that fails is asked about: 401 stops, 426 does not", async (t) => {
  const w = world(t);
  const chat = await start({ token: "t0k" });
  const states = heard(chat, "state");
  w.answers.push({ status: 426 });
  w.socket.end(1006);
  await settled();
  assert.equal(w.fetched[0].url.href, "http://host/ws?user=alice&device=web");
  assert.equal(w.fetched[0].headers.Authorization, "Bearer t0k");
  assert.equal(w.fetched[0].credentials, "include");
  assert.equal(chat.state, "away");
  await w.clock.pass(1);
  w.answers.push({ status: 401 });
  w.socket.end(1006);
  await w.clock.pass(600);
  assert.equal(w.sockets.length, 2);
  const [, { state, end }] = states.at(-1);
  assert.deepEqual([state, end.status, end.asked], ["stopped", 401, false]);
  chat.connect(); // the user has logged in again
  await settled();
  assert.equal(w.sockets.length, 3);
});

for (const [status, comesBack] of [[403, false], [404, false], [200, false], [429, true], [500, true], [408, true]]) {
  test(`after ${status} it ${comesBack ? "comes back" : "stops"}`, async (t) => {
    const w = world(t);
    const chat = await start();
    w.answers.push({ status });
    w.socket.end(1006);
    await settled();
    assert.equal(chat.state, comesBack ? "away" : "stopped");
  });
}

test("a redirection is nowhere to go", async (t) => {
  const w = world(t);
  const chat = await start();
  w.answers.push({ type: "opaqueredirect", status: 0 });
  w.socket.end(1006);
  await settled();
  assert.equal(chat.state, "stopped");
});

test("a server that has no room says when to come back, and one that cannot be read is tried again", async (t) => {
  const w = world(t);
  const chat = await start();
  const states = heard(chat, "state");
  w.answers.push({ status: 503, headers: { "retry-after": "5" } });
  w.socket.end(1006);
  await w.clock.pass(4.9);
  assert.equal(w.sockets.length, 1);
  await w.clock.pass(0.1);
  assert.equal(w.sockets.length, 2);
  w.socket.end(1006); // and the plain request fails, too
  await settled();
  assert.equal(chat.state, "away");
  assert.equal(states.at(-1)[1].end.status, undefined);
});

test("backoff doubles up to a minute, at random, and a good connection starts it again", async (t) => {
  const w = world(t);
  const chat = await start();
  const waits = [];
  chat.on("state", ({ state, end }) => state === "away" && waits.push(end.wait));
  for (let k = 0; k < 8; k += 1) {
    w.socket.end(1006);
    await settled();
    await w.clock.pass(waits.at(-1));
  }
  assert.deepEqual(waits, [0.5, 1, 2, 4, 8, 16, 30, 30]);
  await w.socket.welcome();
  await w.clock.pass(9);
  w.socket.end(1006);
  await settled();
  assert.equal(waits.at(-1), 30); // it was not a good one
  await w.clock.pass(30);
  await w.socket.welcome();
  await w.clock.pass(11);
  w.socket.end(1006);
  await settled();
  assert.equal(waits.at(-1), 0.5);
});

test("a server that drains is left alone for as long as it asks", async (t) => {
  const w = world(t);
  const chat = await start();
  const states = heard(chat, "state");
  await w.socket.welcome();
  w.socket.end(1001, "retry_after=3.2");
  assert.equal(states.at(-1)[1].end.wait, 3.2);
  await w.clock.pass(3.1);
  assert.equal(w.sockets.length, 1);
  await w.clock.pass(0.2);
  assert.equal(w.sockets.length, 2);
});

for (const code of [1000, 1002, 1007, 1008, 1009, 4401, 4409, 4429]) {
  test(`after ${code} it does not come back by itself`, async (t) => {
    const w = world(t);
    const chat = await start();
    await w.socket.welcome();
    w.socket.end(code, "why");
    await w.clock.pass(600);
    w.happens("online");
    await settled();
    assert.equal(chat.state, "stopped");
    assert.equal(w.sockets.length, 1);
  });
}

for (const code of [1001, 1005, 1006, 1011, 4408, 4999]) {
  test(`after ${code} it comes back`, async (t) => {
    const w = world(t);
    await start();
    await w.socket.welcome();
    w.socket.end(code);
    await w.clock.pass(1);
    assert.equal(w.sockets.length, 2);
  });
}

test("silence is asked about, and a server that does not answer is given up without waiting for its end", async (t) => {
  const w = world(t);
  const chat = await start();
  await w.socket.welcome();
  await w.clock.pass(24);
  assert.equal(w.socket.of("ping").length, 0);
  await w.socket.says({ type: "typing", from: "bob", typing: true }); // anything that comes counts
  await w.clock.pass(24);
  assert.equal(w.socket.of("ping").length, 0);
  await w.clock.pass(1);
  assert.equal(w.socket.of("ping").length, 1);
  await w.socket.says({ type: "pong" });
  await w.clock.pass(25);
  assert.equal(w.socket.of("ping").length, 2);
  const first = w.socket;
  await w.clock.pass(10);
  assert.equal(first.readyState, 2);
  await w.clock.pass(1);
  assert.equal(w.sockets.length, 2);
  await w.socket.welcome();
  first.end(4409, "replaced"); // by this very client
  await settled();
  assert.equal(chat.state, "open");
});

test("no welcome within 10 seconds is no connection", async (t) => {
  const w = world(t);
  await start();
  w.socket.open();
  await w.clock.pass(10.6);
  assert.equal(w.sockets[0].readyState, 2);
  assert.equal(w.sockets.length, 2);
});

for (const [what, frame] of [["not JSON", "{"], ["another frame", { type: "pong" }]]) {
  test(`${what} in place of the welcome ends the connection, and it comes back`, async (t) => {
    const w = world(t);
    await start();
    w.socket.open();
    await w.socket.says(frame);
    assert.equal(w.socket.readyState, 2);
    await w.clock.pass(1);
    assert.equal(w.sockets.length, 2);
  });
}

test("another server than ours is not talked to", async (t) => {
  const w = world(t);
  const chat = await start();
  w.socket.open("");
  await settled();
  assert.equal(chat.state, "stopped");
  assert.equal(w.socket.closedWith, 1000);
});

test("a token that cannot be sent is said to be none, and not tried for ever", async (t) => {
  const w = world(t);
  globalThis.WebSocket = class {
    constructor(_, protocols) {
      throw new SyntaxError(`${protocols[1]} is no subprotocol`);
    }
  };
  const chat = await start({ token: "a b" });
  await w.clock.pass(600);
  assert.equal(chat.state, "stopped");
});

test("whoever is taken for somebody else leaves, and uses no position there", async (t) => {
  const w = world(t);
  const chat = await start();
  await w.socket.welcome({ user: "eve", cursor: 40, head: 40 });
  assert.equal(chat.state, "stopped");
  assert.deepEqual(w.socket.sent, []);
  assert.equal(chat.log, null);
});

test("a network or a user that comes back is worth an attempt at once", async (t) => {
  const w = world(t);
  await start();
  for (const happens of [() => w.happens("online"), () => w.page.dispatchEvent(new Event("visibilitychange"))]) {
    await w.socket.welcome();
    w.socket.end(1006);
    const before = w.sockets.length;
    w.page.visibilityState = "hidden";
    happens();
    await settled();
    assert.equal(w.sockets.length, before);
    w.page.visibilityState = "visible";
    happens();
    await settled();
    assert.equal(w.sockets.length, before + 1);
  }
});

test("whoever looks at the page finds out soon that the connection is dead", async (t) => {
  const w = world(t);
  await start();
  await w.socket.welcome();
  await w.clock.pass(3);
  w.happens("offline");
  assert.equal(w.socket.of("ping").length, 1);
  await w.clock.pass(5.6);
  assert.equal(w.sockets.length, 2);
  await w.socket.welcome();
  w.clock.sleep(3600); // the lid was closed: no timer went, and no answer is to be expected
  w.happens("pageshow");
  await w.clock.pass(0.6);
  assert.equal(w.sockets.length, 3);
});

test("who leaves is gone, and a late socket changes nothing", async (t) => {
  const w = world(t);
  const chat = await start();
  const states = heard(chat, "state");
  const { socket } = w;
  chat.close();
  assert.equal(socket.closedWith, 1000);
  assert.deepEqual([states.at(-1)[1].state, states.at(-1)[1].end.asked], ["stopped", true]);
  socket.end(1006);
  w.happens("online");
  await w.clock.pass(100);
  assert.equal(w.sockets.length, 1);
  await assert.rejects(chat.history(), (error) => error instanceof ChatError && error.code === "stopped");
});

test("without a user it asks who it is, on a connection that changes nothing", async (t) => {
  const w = world(t);
  const connecting = connect({ url: "http://host/ws", token: "t0k", storage: new MemoryStorage("web") });
  await settled();
  assert.equal(w.socket.url.href, "ws://host/ws?window=0");
  await w.socket.welcome();
  const chat = await connecting;
  await settled();
  assert.equal(chat.user, "alice");
  assert.equal(w.sockets[0].closedWith, 1000);
  assert.equal(w.socket.url.href, "ws://host/ws?device=web");

  const refused = connect({ url: "http://host/ws" });
  await settled();
  w.answers.push({ status: 401 });
  w.socket.end(1006);
  await assert.rejects(refused, { code: "stopped" });
});
