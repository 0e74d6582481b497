// What a device of trio-chat.js has to remember when its page is gone: where it stands in the log, and what is not sent yet.

/**
 * @typedef {{log: string | null, after: number}} Position
 * @typedef {{id: string, to: string, type: string, [field: string]: unknown}} Draft a frame that waits for its answer
 * @typedef {{position?: Position, put?: Draft[], remove?: string[]}} Change
 *
 * @typedef {object} Storage
 * @property {string} device whose memory this is
 * @property {boolean} durable whether it outlives the page
 * @property {Position} position
 * @property {Draft[]} outbox as it was found, the oldest first
 * @property {(change: Change) => Promise<void>} write all of it or nothing; one after another in the order of the calls
 * @property {() => void} close
 */

const DATABASE = "trio-chat";
const POSITIONS = "positions";
const OUTBOX = "outbox";

/** @param {number} bytes */
const random = (bytes) => [...crypto.getRandomValues(new Uint8Array(bytes))].map((b) => b.toString(16).padStart(2, "0")).join("");

/** A UUID; `crypto.randomUUID` is there on https and localhost only. */
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const hex = random(16);
  const variant = ((parseInt(hex[16], 16) & 3) | 8).toString(16);
  return [hex.slice(0, 8), hex.slice(8, 12), `4${hex.slice(13, 16)}`, `${variant}${hex.slice(17, 20)}`, hex.slice(20)].join("-");
}

/**
 * The memory of a device of `user` at `server` in this browser.
 *
 * Without `device`, tabs share a number of devices: each tab takes one that no other tab holds (by a Web Lock, which ends with
 * the tab, however that ends), or a new one. So tabs do not replace one another, a reload finds its own again, and their
 * number stays that of the tabs that were ever open at once. What a closed tab left in its outbox, the next one sends.
 *
 * @param {string} server
 * @param {string} user
 * @param {string} [device]
 * @returns {Promise<Storage>}
 */
export async function openStorage(server, user, device) {
  try {
    return await IndexedStorage.open(server, user, device);
  } catch {
    return new MemoryStorage(device); // no IndexedDB, or one that the browser does not let this page use
  }
}

/** @implements {Storage} */
export class MemoryStorage {
  /** @param {string} [device] */
  constructor(device = `web-${random(6)}`) {
    this.device = device;
    this.durable = false;
    /** @type {Position} */
    this.position = { log: null, after: 0 };
    /** @type {Draft[]} */
    this.outbox = [];
  }

  async write() {}

  close() {}
}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
const result = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** @param {IDBTransaction} transaction @returns {Promise<void>} */
const committed = (transaction) =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });

/** @returns {Promise<IDBDatabase>} */
function openDatabase() {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => {
    opening.result.createObjectStore(POSITIONS);
    opening.result.createObjectStore(OUTBOX); // key: [server, user, device, number]
  };
  return result(opening);
}

/** Everything whose key begins with `prefix`. @param {string[]} prefix */
const under = (prefix) => IDBKeyRange.bound(prefix, [...prefix, []]); // an array is above every string and number

/**
 * Holds the lock of a device until the function it gives is called or the page is gone; null if another page holds it.
 *
 * @param {string[]} owner
 * @returns {Promise<(() => void) | null>}
 */
function hold(owner) {
  const locks = globalThis.navigator?.locks;
  if (!locks) return Promise.resolve(() => {});
  return new Promise((resolve, reject) => {
    locks
      .request(`${DATABASE} ${JSON.stringify(owner)}`, { ifAvailable: true }, (lock) => {
        if (!lock) return resolve(null);
        return new Promise((release) => resolve(() => release(undefined)));
      })
      .catch(reject);
  });
}

/** @implements {Storage} */
class IndexedStorage {
  #database;
  #owner;
  #release;
  #next = 0;
  /** @type {Map<string, IDBValidKey>} */
  #keys = new Map(); // of what is in the outbox, by id

  /**
   * @param {IDBDatabase} database
   * @param {string[]} owner
   * @param {(() => void) | null} release
   */
  constructor(database, owner, release) {
    this.#database = database;
    this.#owner = owner;
    this.#release = release;
    this.device = owner[2];
    this.durable = true;
    /** @type {Position} */
    this.position = { log: null, after: 0 };
    /** @type {Draft[]} */
    this.outbox = [];
    database.onversionchange = () => database.close();
  }

  /** @param {string} server @param {string} user @param {string} [device] */
  static async open(server, user, device) {
    const database = await openDatabase();
    const keys = await result(database.transaction(POSITIONS).objectStore(POSITIONS).getAllKeys(under([server, user])));
    const known = keys.map((key) => /** @type {string[]} */ (key)[2]);
    let release = null;
    if (device !== undefined) {
      release = await hold([server, user, device]); // who has it already will be replaced by the server
    } else {
      // Without locks, nothing says which of the known devices another tab has at this moment.
      for (const free of globalThis.navigator?.locks ? known.filter((name) => name.startsWith("web-")) : []) {
        release = await hold([server, user, free]);
        if (release) {
          device = free;
          break;
        }
      }
      if (device === undefined) {
        device = `web-${random(6)}`;
        release = await hold([server, user, device]);
      }
    }
    const storage = new IndexedStorage(database, [server, user, device], release);
    await storage.#load();
    for (const other of known) if (other !== device) await storage.#adopt(other);
    return storage;
  }

  async #load() {
    const transaction = this.#database.transaction([POSITIONS, OUTBOX], "readwrite");
    const [position, keys, drafts] = await Promise.all([
      result(transaction.objectStore(POSITIONS).get(this.#owner)),
      result(transaction.objectStore(OUTBOX).getAllKeys(under(this.#owner))),
      result(transaction.objectStore(OUTBOX).getAll(under(this.#owner))),
    ]);
    if (position) this.position = position;
    else transaction.objectStore(POSITIONS).put(this.position, this.#owner); // so that a tab that crashes is found again
    this.outbox = drafts;
    keys.forEach((key, k) => this.#keys.set(drafts[k].id, key));
    const last = /** @type {number[] | undefined} */ (keys.at(-1));
    this.#next = last ? last[3] + 1 : 0;
  }

  /** Takes over the outbox of a device that nobody is using. @param {string} device */
  async #adopt(device) {
    if (!globalThis.navigator?.locks) return;
    const [server, user] = this.#owner;
    const release = await hold([server, user, device]);
    if (!release) return;
    try {
      const transaction = this.#database.transaction(OUTBOX, "readwrite");
      const store = transaction.objectStore(OUTBOX);
      const left = await result(store.getAll(under([server, user, device])));
      for (const draft of left) if (!this.#keys.has(draft.id)) this.outbox.push(this.#put(store, draft));
      store.delete(under([server, user, device]));
      await committed(transaction);
    } finally {
      release();
    }
  }

  /** @param {IDBObjectStore} store @param {Draft} draft */
  #put(store, draft) {
    const key = [...this.#owner, this.#next++];
    this.#keys.set(draft.id, key);
    store.put(draft, key);
    return draft;
  }

  /** @param {Change} change */
  write({ position, put = [], remove = [] }) {
    // A message is to survive a power cut from the moment it was written. A position that is lost has entries sent again.
    const transaction = this.#database.transaction([POSITIONS, OUTBOX], "readwrite", { durability: put.length ? "strict" : "relaxed" });
    const store = transaction.objectStore(OUTBOX);
    if (position) transaction.objectStore(POSITIONS).put(position, this.#owner);
    for (const draft of put) this.#put(store, draft);
    for (const id of remove) {
      const key = this.#keys.get(id);
      if (key !== undefined) store.delete(key);
      this.#keys.delete(id);
    }
    transaction.commit?.(); // now, and not when the requests were answered: the page may be about to be reloaded
    return committed(transaction);
  }

  close() {
    this.#database.close();
    this.#release?.();
  }
}
