/**
 * The service: requests with the key where it asks for one, uploads with their progress, and the
 * stream of events. `EventSource` and `XMLHttpRequest` each lack something: the first sends no
 * headers, so events are read with `fetch`; only the second tells how much of a body has left.
 */

const KEY = "lts-api-key";
const SEGMENTATIONS = "/v1/segmentations";
const AGAIN_MS = 2000;
const ENDED = ["succeeded", "failed", "cancelled"];

/** What went wrong: `code` as in the service's problem documents, or `network` where none arrived. */
export class Problem extends Error {
  constructor({ code = null, status = 0, title = "", detail = "", request_id = null } = {}) {
    super(title || code || "Problem");
    Object.assign(this, { code, status, title, detail, requestId: request_id });
  }
}

/** Asks a person for the key; the page sets it. Resolves to null where none is given. */
let askForKey = async () => null;
export const onKeyNeeded = (ask) => { askForKey = ask; };

/** The headers of every request, also of those that a viewer makes. */
export function headers() {
  const key = sessionStorage.getItem(KEY);
  return key ? { "X-API-Key": key } : {};
}

export const hasEnded = (job) => ENDED.includes(job.status);
export const models = () => json("/v1/models");
export const segmentation = (id, signal) => json(at(id), { signal });
export const cancel = (id) => request(`${at(id)}/cancel`, { method: "POST" });
export const remove = (id) => request(at(id), { method: "DELETE" });
export const blob = async (url, signal) => (await request(url, { signal })).blob();

/** Sends a study and returns the resource as it was made; `onProgress` hears the part sent, 0 to 1. */
export function upload({ files, parameters, key }, onProgress, signal) {
  return withKey(() => send(formOf(files, parameters), key, onProgress, signal));
}

/** Follows a segmentation to its end and returns the resource; a stream that breaks is opened again. */
export async function follow(id, { onProgress, onLost, signal }) {
  for (;;) {
    try {
      const job = await segmentation(id, signal);
      onProgress(job);
      if (hasEnded(job) || (await streamed(id, onProgress, signal))) return await segmentation(id, signal);
    } catch (error) {
      if (signal.aborted || !isPassing(error)) throw error;
      onLost();
    }
    await pause(AGAIN_MS, signal);
  }
}

const at = (id) => `${SEGMENTATIONS}/${encodeURIComponent(id)}`;

/** Whether the same may succeed later: the network, the service, or a proxy before it. */
export const isPassing = ({ code, status }) => code === "network" || [502, 503, 504].includes(status);

const json = async (url, options) => (await request(url, options)).json();

function request(url, options = {}) {
  return withKey(async () => {
    const answer = await fetch(url, { ...options, headers: headers() }).catch((error) => {
      throw options.signal?.aborted ? error : unreachable();
    });
    if (!answer.ok) throw problemOf(answer.status, await answer.text());
    return answer;
  });
}

/** Runs what asks the service, again with a key for as long as it wants another one. */
async function withKey(ask) {
  for (;;) {
    const used = sessionStorage.getItem(KEY);
    try {
      return await ask();
    } catch (error) {
      if (error.status !== 401) throw error;
      const key = await newerKey(used);
      if (!key) throw error;
    }
  }
}

let asking = null;

/** Several requests may find the key missing at once: a person is asked once. */
async function newerKey(used) {
  const kept = sessionStorage.getItem(KEY);
  if (kept !== used) return kept;
  asking ??= askForKey(used !== null).finally(() => { asking = null; });
  const given = await asking;
  if (given) sessionStorage.setItem(KEY, given);
  return given;
}

function formOf(files, parameters) {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  for (const [name, value] of Object.entries(parameters)) form.append(name, value);
  return form;
}

function send(form, idempotencyKey, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    const stopped = () => new DOMException("The upload was stopped.", "AbortError");
    let hasArrived = false;
    // A study that has arrived may be a job already: it is answered, and taken back then.
    const abort = () => (hasArrived ? reject(stopped()) : xhr.abort());
    signal.addEventListener("abort", abort, { once: true });
    xhr.open("POST", SEGMENTATIONS);
    const sent = { Prefer: "respond-async", "Idempotency-Key": idempotencyKey, ...headers() };
    for (const [name, value] of Object.entries(sent)) xhr.setRequestHeader(name, value);
    xhr.upload.onprogress = (event) => { if (event.total) onProgress(event.loaded / event.total); };
    xhr.upload.onload = () => { hasArrived = true; };
    xhr.onload = () => {
      if (xhr.status >= 400) return reject(problemOf(xhr.status, xhr.responseText));
      const job = JSON.parse(xhr.responseText);
      if (signal.aborted) remove(job.id).catch(() => {}); // nobody would know of it
      return resolve(job);
    };
    xhr.onerror = () => reject(unreachable());
    xhr.onabort = () => reject(stopped());
    xhr.onloadend = () => signal.removeEventListener("abort", abort);
    xhr.send(form);
  });
}

/** Reads events until the one named `end`: true then, false where the stream broke off before. */
async function streamed(id, onProgress, signal) {
  const answer = await request(`${at(id)}/events`, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      if (signal.aborted) throw error;
      return { done: true };
    });
    if (done) return false;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events.map(parsed)) {
      if (event.data) onProgress(JSON.parse(event.data));
      if (event.event === "end") return true;
    }
  }
}

/** One event's fields; comments, which keep the connection alive, have none. */
function parsed(event) {
  const fields = event.split("\n").filter((line) => !line.startsWith(":"));
  return Object.fromEntries(fields.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).trimStart()];
  }));
}

function problemOf(status, text) {
  try {
    return new Problem({ status, ...JSON.parse(text) });
  } catch {
    // A proxy before the service may answer in a language of its own.
    return new Problem({ status, title: `The server answered with status ${status}.` });
  }
}

const unreachable = () => new Problem({ code: "network", title: "The service cannot be reached." });

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}
