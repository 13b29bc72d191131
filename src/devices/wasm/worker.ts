// The program of a pool's threads, as text: plain JavaScript with no imports of its own, so that it starts alike in Node, browsers, from TypeScript and from a bundle.
import { CONTROL } from "./control.ts";
import type { Job } from "./launch_list.ts";

/** First message to a worker. */
export interface StartMessage {
  readonly start: {
    readonly memory: WebAssembly.Memory;
    readonly poll: WebAssembly.Module;
    /** 0: the leader of asynchronous runs, which is told by messages; others wait for jobs in shared memory. */
    readonly tid: number;
    readonly spinMilliseconds: number;
  };
}
export interface LoadMessage {
  readonly load: { readonly list: number; readonly module: WebAssembly.Module };
}
export interface UnloadMessage {
  readonly unload: number;
}
/** To the leader: walk these records. */
export interface RunMessage {
  readonly run: Job & { readonly id: number; readonly list: number };
}
export type ToWorker = StartMessage | LoadMessage | UnloadMessage | RunMessage;
/** handled: how many messages so far · done: a run, by id · failed: the thread's error. */
export type FromWorker = { readonly handled: number } | { readonly done: number } | { readonly failed: string };

const cell = (address: number): number => address / 4;
const POLLS = 2000;

export const WORKER_SOURCE = `
const port = typeof require === "function" ? require("node:worker_threads").parentPort : self;
const lists = new Map();
let self_, control, poll, env, seen = 0, handled = 0;
function fail(error) {
  Atomics.store(control, ${cell(CONTROL.failed)}, 1);
  if (self_.tid === 0) {
    Atomics.store(control, ${cell(CONTROL.lock)}, 0); // this thread held it
    Atomics.notify(control, ${cell(CONTROL.lock)});
  }
  port.postMessage({ failed: String(error && error.message || error) });
}
const isIdle = () => Atomics.load(control, ${cell(CONTROL.end)}) === seen && Atomics.load(control, ${cell(CONTROL.mail)}) === handled;
function serve() {
  let awakeUntil = performance.now() + self_.spinMilliseconds;
  while (Atomics.load(control, ${cell(CONTROL.mail)}) === handled && !Atomics.load(control, ${cell(CONTROL.failed)})) {
    const now = poll(seen, ${POLLS});
    if (now !== seen) {
      const walk = lists.get(control[${cell(CONTROL.list)}]);
      if (Atomics.load(control, ${cell(CONTROL.end)}) !== now) continue; // the list may be a later job's
      seen = now;
      if (walk) walk(now, self_.tid, 1); // a list that is gone already has no part left
      awakeUntil = performance.now() + self_.spinMilliseconds;
    } else if (performance.now() > awakeUntil) {
      Atomics.add(control, ${cell(CONTROL.idleSleepers)}, 1);
      const wake = Atomics.load(control, ${cell(CONTROL.wake)});
      if (isIdle()) Atomics.wait(control, ${cell(CONTROL.wake)}, wake);
      Atomics.sub(control, ${cell(CONTROL.idleSleepers)}, 1);
    }
  }
}
function handle(message) {
  if (message.start) {
    self_ = message.start;
    env = { env: { memory: self_.memory } };
    control = new Int32Array(self_.memory.buffer, 0, 1024);
    poll = new WebAssembly.Instance(self_.poll, env).exports.poll;
  } else if (message.load) {
    const { walk, run } = new WebAssembly.Instance(message.load.module, env).exports;
    lists.set(message.load.list, self_.tid === 0 ? run : walk);
  } else if (message.run) {
    const { id, list, from, to, stride, isAlone } = message.run;
    lists.get(list)(list, from, to, stride, Number(isAlone), 1);
    // After a failure the thread that failed reports it.
    if (!Atomics.load(control, ${cell(CONTROL.failed)})) port.postMessage({ done: id });
    return;
  } else lists.delete(message.unload);
  port.postMessage({ handled: ++handled });
}
function receive(message) {
  try {
    handle(message);
    if (self_.tid !== 0 && handled === Atomics.load(control, ${cell(CONTROL.mail)})) serve();
  } catch (error) {
    fail(error);
  }
}
if (port.on) port.on("message", receive);
else port.onmessage = (event) => receive(event.data);
`;
