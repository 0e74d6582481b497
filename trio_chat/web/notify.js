// "Notify me": Web Push for this browser, where the server pushes. Loaded only there.

import { address } from "./sidebar.js";
import { make, the } from "./dom.js";

const WORKER = "/notify-worker.js";
const CHOSEN = "notify"; // in localStorage: for whom; a browser has one subscription

// The page lets no text become a script: this policy, which knows one address only, is all there is to it.
const policy = globalThis.trustedTypes?.createPolicy("notify-worker", { createScriptURL: () => WORKER });

/** Offers it, if there is anything to offer. @param page the page: see app.js */
export async function offer(page) {
  const { chat, user } = page;
  if (!("serviceWorker" in navigator && "PushManager" in window && "Notification" in window)) return;
  const provider = (await chat.push()).providers.find(({ key }) => key);
  if (!provider || Notification.permission === "denied") return;
  const registration = await navigator.serviceWorker.register(policy?.createScriptURL("") ?? WORKER);
  navigator.serviceWorker.addEventListener("message", ({ data }) => {
    if (data.user === user) location.hash = address(user, data.peer); // a notification was clicked
  });
  const button = make("button", { type: "button", class: "notify" });
  const draw = (text = localStorage.getItem(CHOSEN) === user ? "Stop notifying" : "Notify me") => (button.textContent = text);
  const begin = async () => {
    const subscription = await subscribed(registration.pushManager, provider.key);
    await chat.registerPush(provider.name, "subscription", JSON.stringify(subscription));
    localStorage.setItem(CHOSEN, user);
  };
  const end = async () => {
    localStorage.removeItem(CHOSEN);
    await chat.unregisterPush(provider.name);
    await (await registration.pushManager.getSubscription())?.unsubscribe();
  };
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      if (localStorage.getItem(CHOSEN) === user) await end();
      else if ((await Notification.requestPermission()) === "granted") await begin();
      draw();
    } catch (error) {
      draw("Not possible here");
      button.title = error.message;
    }
    button.disabled = false;
  });
  draw();
  the("me").insertBefore(button, the("me").lastElementChild);
  // Again at every start: the server forgets what it has not heard of for long, and the key may be another.
  if (Notification.permission === "granted" && localStorage.getItem(CHOSEN) === user) await begin().catch(() => draw("Not possible here"));
}

/** The browser's subscription with this key; one with another key is of no use any more. */
async function subscribed(manager, key) {
  const old = await manager.getSubscription();
  if (old && base64url(old.options.applicationServerKey) === key) return old;
  await old?.unsubscribe();
  return manager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
}

function base64url(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
