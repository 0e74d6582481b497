// The list of conversations, and what is found in place of it.

import { aside, avatar, make, name, the, tick, whenOf } from "./dom.js";

const DELETED = "Message deleted";

/** Where a click leads. The page's state is its address, so that back, reload and a second tab just work. */
export const address = (user, peer, at) =>
  `#${new URLSearchParams({ user, ...(peer ? { with: peer } : {}), ...(at ? { at } : {}) })}`;

/** A face with its presence. */
export function face(user, presence) {
  return make("span", { class: `face${presence?.online ? " online" : ""}` }, avatar(user));
}

/** @param page the page: see app.js */
export function drawSidebar(page) {
  const { user, conversations, peer } = page;
  const found = the("search").value.trim() !== "";
  const list = conversations.list();
  the("conversations").hidden = found;
  the("results").hidden = !found;
  the("nobody").hidden = found || list.length > 0 || !page.listed;
  update(the("conversations"), list.map((row) => make("li", {}, conversation(page, row, row.peer === peer))));
  if (!the("nobody").hidden && !the("nobody").hasChildNodes()) {
    const other = user === "bob" ? "alice" : "bob";
    const link = make("a", { href: address(other, user), target: "_blank", rel: "noopener" }, `open this page as ${other}`);
    the("nobody").append(
      make("p", {}, "Nobody has written yet. Type an ID above to write to somebody."),
      make("p", {}, "Trying it alone? ", link, ", in a second tab."),
    );
  }
  const { unread } = conversations;
  document.title = `${unread ? `(${unread}) ` : ""}${user} · trio-chat`;
}

/** Puts these rows into a list; those that are there already stay, with the focus that they may have. */
function update(list, rows) {
  const old = [...list.children];
  const kept = rows.map((row) => old.find((other) => other.isEqualNode(row)) ?? row);
  if (kept.length === old.length && kept.every((row, k) => row === old[k])) return;
  const focused = list.contains(document.activeElement) ? document.activeElement.hash : null;
  list.replaceChildren(...kept);
  if (focused) [...list.querySelectorAll("a")].find(({ hash }) => hash === focused)?.focus({ preventScroll: true });
}

function conversation(page, row, current) {
  const { user, conversations } = page;
  const { last, unread, presence, typing } = row;
  const own = last.from === user;
  const text = typing ? "typing…" : (last.text ?? DELETED);
  const link = make(
    "a",
    { href: address(user, row.peer), class: unread ? "unread" : "" },
    face(row.peer, presence),
    make(
      "div",
      { class: "row" },
      make("div", {}, name(row.peer), presence?.online ? aside("online") : null, make("time", {}, whenOf(last.sent_at))),
      make(
        "div",
        {},
        own && !typing ? tick(conversations.progress(row.peer, last)) : null,
        make("span", { class: `last${typing ? " typing" : ""}`, dir: "auto" }, text.slice(0, 200)),
        unread ? make("span", { class: "badge" }, unread >= 1000 ? "999+" : `${unread}`, aside(" unread")) : null,
      ),
    ),
  );
  if (current) link.setAttribute("aria-current", "page");
  return link;
}

/** What was typed: somebody to write to, conversations with such a name, and messages with these words. */
export function drawResults(page, hits) {
  const text = the("search").value.trim();
  const rows = [];
  const group = (title) => rows.push(make("li", { class: "group" }, title));
  const people = page.conversations.list().filter(({ peer }) => peer.toLowerCase().includes(text.toLowerCase()));
  if (!people.some(({ peer }) => peer === text)) {
    const who = make("div", { class: "row" }, make("div", {}, name(`Write to ${text}`)));
    rows.push(make("li", {}, make("a", { href: address(page.user, text) }, face(text), who)));
  }
  if (people.length) group("Conversations");
  for (const row of people) rows.push(make("li", {}, conversation(page, row, false)));
  if (hits === null) group("Looking for messages…");
  else if (hits.length) group("Messages");
  else group("No message has these words");
  for (const { message, snippet } of hits ?? []) {
    const peer = message.from === page.user ? message.to : message.from;
    const pieces = snippet.map((piece, k) => (k % 2 ? make("mark", {}, piece) : piece));
    const body = make(
      "div",
      { class: "row" },
      make("div", {}, name(peer), make("time", {}, whenOf(message.sent_at))),
      make("div", {}, make("span", { class: "last wrap", dir: "auto" }, message.from === page.user ? "You: " : "", ...pieces)),
    );
    rows.push(make("li", {}, make("a", { href: address(page.user, peer, message.seq) }, face(peer), body)));
  }
  update(the("results"), rows);
}

/** Who the user is. */
export function drawMe(page) {
  const { user } = page;
  const leave = make("a", { href: "#", title: "Be somebody else" }, "Switch");
  const who = make("div", { class: "who" }, make("strong", {}, name(user)), make("p", {}, "that is you"));
  the("me").replaceChildren(avatar(user), who, leave);
}
