// Caches the package's files, so that the page works offline, and isolates the page: with these headers, browsers let
// it start threads, whatever the server sends.

importScripts("files.js"); // self.PACKAGE {version, first: paths, later: paths}

const PREFIX = "evm-deploy ";
const CACHE = PREFIX + self.registration.scope + " " + self.PACKAGE.version;
const url = (path) => new URL(path, self.registration.scope).href;
const KEPT = new Set([...self.PACKAGE.first, ...self.PACKAGE.later].map(url));

self.addEventListener("install", (event) => {
  const all = self.PACKAGE.first.map((path) => new Request(url(path), { cache: "no-cache" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(all)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => event.waitUntil(tidy().then(() => self.clients.claim())));

self.addEventListener("fetch", (event) => {
  const asked = new URL(event.request.url);
  asked.hash = asked.search = "";
  const path = asked.href === self.registration.scope ? url("index.html") : asked.href;
  if (event.request.method === "GET" && KEPT.has(path)) event.respondWith(kept(path));
});

/** Caches of other versions of this package. */
async function tidy() {
  const ours = PREFIX + self.registration.scope + " ";
  const old = (await caches.keys()).filter((name) => name.startsWith(ours) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
}

async function kept(path) {
  const cache = await caches.open(CACHE);
  let answer = await cache.match(path);
  if (!answer) {
    answer = await fetch(path, { cache: "no-cache" });
    if (answer.ok) await cache.put(path, answer.clone());
  }
  const headers = new Headers(answer.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(answer.body, { status: answer.status, statusText: answer.statusText, headers });
}
