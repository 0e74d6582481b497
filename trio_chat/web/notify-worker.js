// The service worker: shows what is pushed, takes it away again, and opens the conversation when it is clicked.

addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));

addEventListener("push", (event) => event.waitUntil(pushed(event.data.json())));

async function pushed({ user, peer, tag, title, body, badge, clear }) {
  if (badge) navigator.setAppBadge?.(badge);
  else navigator.clearAppBadge?.();
  if (clear) {
    for (const shown of await registration.getNotifications({ tag })) shown.close();
  } else if (!(await windows(user)).some(({ focused }) => focused)) {
    await registration.showNotification(title, { body, tag, renotify: true, icon: "/icon.svg", data: { user, peer } });
  }
}

addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(opened(event.notification.data));
});

async function opened({ user, peer }) {
  const [open] = await windows(user);
  if (!open) return clients.openWindow(`/#${new URLSearchParams({ user, with: peer })}`);
  open.postMessage({ user, peer });
  await open.focus();
}

/** The tabs in which this user has the page, the one that was used last first. */
async function windows(user) {
  const all = await clients.matchAll({ type: "window", includeUncontrolled: true });
  return all.filter(({ url }) => new URLSearchParams(new URL(url).hash.slice(1)).get("user") === user);
}
