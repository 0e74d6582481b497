// Making elements. Text is only ever set as text.

/** The element with this id. */
export const the = (id) => document.getElementById(id);

/** Changes a text if it changes: else it would be read out again. */
export function say(id, text) {
  if (the(id).textContent !== text) the(id).textContent = text;
}

/** An element of `kind` with properties and children; `class`, `role` and what has a hyphen are attributes. */
export function make(kind, properties = {}, ...children) {
  const element = document.createElement(kind);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class" || name === "role" || name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** For screen readers only. */
export const aside = (text) => make("span", { class: "aside" }, text);

/** A name among other text: whatever direction it is written in, it steers nothing outside of it. */
export const name = (text, properties = {}) => make("bdi", properties, text);

/** A drawing from the page's own sheet. */
export function icon(id) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `icon ${id}`);
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${id}`);
  svg.append(use);
  return svg;
}

/** A disc with the first letter of a name, in a colour that belongs to the name. */
export function avatar(user) {
  let hash = 7;
  for (const character of user) hash = (hash * 31 + character.codePointAt(0)) % 3600;
  const [first] = new Intl.Segmenter().segment(user);
  return make("span", { class: `avatar hue${hash % 8}`, "aria-hidden": "true" }, (first?.segment ?? "").toUpperCase());
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const whole = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const DAY = 86_400_000;

const midnight = (time) => new Date(time).setHours(0, 0, 0, 0);
const daysAgo = (time) => Math.round((midnight(Date.now()) - midnight(time)) / DAY);

export const timeOf = (time) => clock.format(time);

/** The day of a message: what it is called between other days, and from when to when it goes. */
export function dayOf(time) {
  const ago = daysAgo(time);
  const from = midnight(time);
  return { called: ago === 0 ? "Today" : ago === 1 ? "Yesterday" : whole.format(time), from, to: midnight(from + 1.5 * DAY) };
}

/** When, in as few characters as will do. */
export function whenOf(time) {
  const ago = daysAgo(time);
  return ago === 0 ? timeOf(time) : ago === 1 ? "Yesterday" : ago < 7 ? weekday.format(time) : date.format(time);
}

export function lastSeen(time) {
  const minutes = Math.floor((Date.now() - time) / 60_000);
  if (minutes < 1) return "last seen just now";
  if (minutes < 60) return `last seen ${minutes} minute${minutes === 1 ? "" : "s"} ago`;
  const ago = daysAgo(time);
  if (ago < 2) return `last seen ${ago ? "yesterday" : "today"} at ${timeOf(time)}`;
  return `last seen ${date.format(time)}`;
}

const PROGRESS = { sending: "sending", stored: "sent", delivered: "delivered", read: "read", refused: "not sent", unknown: "perhaps not sent" };

/** How far an own message is, to see and to hear. */
export function tick(progress) {
  const drawing = { sending: "i-clock", stored: "i-tick", delivered: "i-ticks", read: "i-ticks" }[progress] ?? "i-alert";
  return make("span", { class: `tick ${progress}`, title: PROGRESS[progress] }, icon(drawing), aside(PROGRESS[progress]));
}
