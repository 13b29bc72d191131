// Turns a thread count into threads that walk launch lists together: started late, shared by all devices of the process, asleep when idle.
import { SHARE_ENV, Worker } from "node:worker_threads";
import { HeddleError } from "../../ir/error.ts";
import { machineFacts } from "../machine.ts";
import { CONTROL, controlBytes } from "./control.ts";
import { driverCode, NO_LIST } from "./driver.ts";
import { allocate, placeCode } from "./memory.ts";
import { koffiPath, maskOf, type Native, type NativeFunction } from "./native.ts";
import { WORKER_SOURCE, type WorkerData, WorkerState } from "./worker.ts";

export interface PoolOptions {
  readonly threads: number;
  /** How long an idle worker polls for the next job before it sleeps. */
  readonly spinMicroseconds: number;
  /** true: bind workers and this thread to a core each; undefined: workers only; false: neither. */
  readonly pin?: boolean;
}

/** What the driver walks: records [from, to), byte offsets, of the list at an address. */
export interface Job {
  readonly list: number;
  readonly from: number;
  readonly to: number;
  /** Whether other threads have nothing to do. */
  readonly isAlone: boolean;
}

/** A worker that has not started by then never will; with fifteen processes for each core some took 20 s. */
const START_MS = 60_000;
/** How long a process that ends waits for a thread that is still starting. */
const EXIT_MS = 2000;
/** A sleeping worker comes back to JavaScript this often, where termination can reach it. */
const NAP_MS = 500;
/** Polls at a barrier before a thread offers its core to others: 50 to 100 µs. */
const BARRIER_POLLS = 2000;

interface Driver {
  readonly run: NativeFunction;
  readonly runAlone: NativeFunction;
  readonly worker: number;
}
let driver: Driver | undefined;

/** The driver's code stays mapped as long as the process: threads may still be leaving it after their pool was closed. */
function loadDriver(native: Native): Driver {
  if (!driver) {
    const { code, run, runAlone, worker } = driverCode();
    const base = placeCode(native, [code]).at[0];
    driver = { run: native.callable(base + run), runAlone: native.callable(base + runAlone), worker: base + worker };
  }
  return driver;
}

const shared = new Map<string, Pool>();
const live = new Set<Pool>();
let isExitWatched = false;

/** Node joins its workers when the process exits; they must have left native code by then. */
function watchExit(): void {
  if (isExitWatched) return;
  isExitWatched = true;
  process.on("exit", () => {
    for (const pool of live) pool.leave();
  });
}

/** The pool for these options. Pools of several threads are shared, so that devices take turns and do not fight for cores; call release() once. */
export function acquirePool(native: Native, options: PoolOptions): Pool {
  if (options.threads === 1) return new Pool(native, options, () => {});
  const key = `${options.threads} ${options.spinMicroseconds} ${options.pin}`;
  let pool = shared.get(key);
  if (!pool) {
    pool = new Pool(native, options, (closed) => {
      if (shared.get(key) === closed) shared.delete(key);
    });
    shared.set(key, pool);
  }
  pool.users++;
  return pool;
}

export class Pool {
  users = 0;
  private readonly control;
  private readonly driver: Driver;
  private readonly state: Int32Array;
  private workers: Worker[] = [];
  private running = 0;
  private started: Promise<void> | undefined;
  private failure: HeddleError | undefined;
  private isReady: boolean;
  private hasQuit = false;
  private tail: Promise<unknown> = Promise.resolve();
  private readonly boundFrom: number[] | null = null;

  constructor(
    private readonly native: Native,
    private readonly options: PoolOptions,
    /** Called when the pool must not be shared any more; more than once. */
    private readonly onClosed: (pool: Pool) => void,
  ) {
    const { threads, spinMicroseconds, pin } = options;
    const machine = machineFacts();
    this.driver = loadDriver(native);
    this.control = allocate(native, controlBytes(threads), false);
    const control = new DataView(this.control.view().buffer);
    // With fewer cores than threads, polling only keeps the others from running.
    const isCrowded = threads > machine.usableCores;
    const spin = isCrowded ? 0 : spinMicroseconds;
    control.setUint32(CONTROL.threads, threads, true);
    control.setUint32(CONTROL.barrierPolls, isCrowded ? 20 : BARRIER_POLLS, true);
    control.setBigUint64(CONTROL.spinTicks, BigInt(Math.round(spin * machine.tscPerMicrosecond)), true);
    control.setBigUint64(CONTROL.napNanoseconds, BigInt(NAP_MS * 1e6), true);
    this.state = new Int32Array(new SharedArrayBuffer(4 * threads));
    this.isReady = threads === 1;
    if (pin && this.canPin) {
      this.boundFrom = native.affinity();
      native.bind([machine.allowedCpus[0]]);
    }
  }

  private get canPin(): boolean {
    const machine = machineFacts();
    return this.options.pin !== false && this.options.threads <= machine.usableCores;
  }

  /** Starts the threads if they are not; returns at once, they come up meanwhile. */
  start(): void {
    if (this.isReady || this.started) return;
    watchExit();
    live.add(this);
    const koffi = koffiPath();
    const arrivals: Promise<void>[] = [];
    for (let tid = 1; tid < this.options.threads; tid++) {
      const mask = this.canPin ? maskOf([machineFacts().allowedCpus[tid]]) : null;
      const workerData: WorkerData = { koffi, entry: this.driver.worker, control: this.control.address, tid, state: this.state, mask };
      arrivals.push(
        this.watch(new Worker(WORKER_SOURCE, { eval: true, workerData, execArgv: [], env: SHARE_ENV, name: `heddle ${tid}` }), tid),
      );
    }
    this.started = Promise.all(arrivals).then(() => {
      this.isReady = true;
    });
    this.started.catch(() => {}); // reported where somebody waits for it
  }

  /** Resolves when the worker stands by. */
  private watch(worker: Worker, tid: number): Promise<void> {
    this.workers.push(worker);
    this.running++;
    const ready = new Promise<void>((resolve, reject) => {
      const fail = (cause?: unknown): void => {
        this.failure ??= new HeddleError("missing", `device x86: thread ${tid} of ${this.options.threads} stopped; use fewer threads`, {
          cause,
        });
        this.isReady = false;
        this.onClosed(this);
        Atomics.store(this.state, tid, WorkerState.failed);
        reject(this.failure);
      };
      worker.on("message", () => resolve());
      worker.on("error", fail);
      worker.on("exit", () => {
        if (!this.hasQuit) fail();
        if (--this.running === 0) this.freeControl();
      });
    });
    worker.unref(); // only now: listening takes a reference
    return ready;
  }

  /** Blocks until all workers stand by. */
  private waitReady(): void {
    this.start();
    for (let tid = 1; tid < this.options.threads && !this.failure; tid++) {
      const outcome = Atomics.wait(this.state, tid, WorkerState.starting, START_MS);
      if (outcome === "timed-out" || this.state[tid] !== WorkerState.ready)
        this.failure = new HeddleError("missing", `device x86: thread ${tid} of ${this.options.threads} did not start; use fewer threads`);
    }
    if (this.failure) throw this.failure;
    this.isReady = true;
  }

  /** The same without blocking; keeps the process alive meanwhile. */
  private async awaitReady(): Promise<void> {
    this.start();
    for (const worker of this.workers) worker.ref();
    try {
      await this.started;
    } finally {
      for (const worker of this.workers) worker.unref();
    }
  }

  /** Waits for an asynchronous run to end first. */
  run({ list, from, to, isAlone }: Job): void {
    if (!isAlone && !this.isReady) this.waitReady();
    this.driver[isAlone ? "runAlone" : "run"](this.control.address, list, from, to);
  }

  /** The same on a thread of libuv's pool, after the asynchronous runs before it. */
  runAsync({ list, from, to, isAlone }: Job): Promise<void> {
    const job = this.tail.then(async () => {
      if (!isAlone && !this.isReady) await this.awaitReady();
      await new Promise<void>((resolve, reject) => {
        this.driver[isAlone ? "runAlone" : "run"].async(this.control.address, list, from, to, (error) =>
          error ? reject(error) : resolve(),
        );
      });
    });
    this.tail = job.catch(() => {});
    return job;
  }

  /** Takes one user off; with the last one the threads end. No run may be in flight. */
  release(): void {
    if (--this.users > 0) return;
    if (this.boundFrom) this.native.bind(this.boundFrom);
    this.onClosed(this);
    if (this.running === 0) this.freeControl();
    else this.quit();
  }

  /** Sends the threads out of native code. */
  quit(): void {
    if (this.hasQuit) return;
    this.hasQuit = true;
    this.driver.run(this.control.address, NO_LIST, 0, 0);
  }

  /** At process exit. A thread that Node stops while koffi starts up in it aborts the process: such ones arrive first. */
  leave(): void {
    for (let tid = 1; tid < this.options.threads; tid++) Atomics.wait(this.state, tid, WorkerState.starting, EXIT_MS);
    this.quit();
  }

  private freeControl(): void {
    live.delete(this);
    this.control.free();
  }
}
