// Turns a thread count into workers that walk launch lists together, asleep when idle, and a further one that leads asynchronous runs.
import { HeddleError } from "../../ir/error.ts";
import { compileModule } from "./compile.ts";
import { CONTROL } from "./control.ts";
import { type ListExports, pollModule } from "./driver.ts";
import type { Host, HostWorker } from "./host.ts";
import type { Job } from "./launch_list.ts";
import { type FromWorker, type ToWorker, WORKER_SOURCE } from "./worker.ts";

export interface PoolOptions {
  readonly threads: number;
  /** How long an idle worker polls for the next job before it sleeps. */
  readonly spinMicroseconds: number;
}

/** A worker and what it has received. */
class Member {
  private sent = 0;
  private handled = 0;
  private waiting: { readonly until: number; readonly resolve: () => void; readonly reject: (error: unknown) => void }[] = [];
  private failure: unknown;
  private runs = 0;

  constructor(
    private readonly worker: HostWorker,
    readonly tid: number,
    onMessage: (message: FromWorker) => void,
    private readonly onFailed: (cause: unknown) => void,
  ) {
    worker.onFailure((cause) => this.fail(cause));
    worker.onMessage((data) => {
      const message = data as FromWorker; // only our worker's program posts here
      if ("handled" in message) this.advance(message.handled);
      if ("failed" in message) this.fail(message.failed);
      onMessage(message);
    });
    worker.hold(false); // only now: listening takes a reference
  }

  private advance(handled: number): void {
    this.handled = handled;
    for (const w of this.waiting) if (w.until <= handled) w.resolve();
    this.waiting = this.waiting.filter((w) => w.until > handled);
    this.release();
  }
  private fail(cause: unknown): void {
    this.failure ??= cause;
    this.onFailed(cause);
    for (const w of this.waiting.splice(0)) w.reject(cause);
    this.release();
  }
  /** The worker keeps the process alive while something waits for it. */
  private release(): void {
    if (this.waiting.length === 0 && this.runs === 0) this.worker.hold(false);
  }

  /** For messages that the worker confirms. */
  send(message: ToWorker): void {
    this.sent++;
    this.worker.post(message);
  }
  /** For runs, which end with a message of their own, told by endRun(). */
  startRun(message: ToWorker): void {
    this.runs++;
    this.worker.hold(true);
    this.worker.post(message);
  }
  endRun(): void {
    this.runs--;
    this.release();
  }
  /** Resolves when everything sent so far was received. */
  settled(): Promise<void> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    if (this.handled >= this.sent) return Promise.resolve();
    this.worker.hold(true);
    return new Promise((resolve, reject) => this.waiting.push({ until: this.sent, resolve, reject }));
  }
  terminate(): void {
    this.worker.terminate();
  }
}

/** A list's module in every thread. */
export interface PoolList {
  readonly id: number;
  readonly module: WebAssembly.Module;
  readonly exports: ListExports;
}

export class Pool {
  private members: Member[] = [];
  private leader: Member | undefined;
  private readonly control: Int32Array;
  private readonly lists = new Map<number, PoolList>();
  private nextList = 1;
  private nextRun = 1;
  private readonly runs = new Map<number, { readonly resolve: () => void; readonly reject: (error: unknown) => void }>();
  private pollModule: Promise<WebAssembly.Module> | undefined;
  private failure: HeddleError | undefined;
  private isClosed = false;

  constructor(
    private readonly host: Host,
    private readonly memory: WebAssembly.Memory,
    private readonly options: PoolOptions,
  ) {
    this.control = new Int32Array(memory.buffer, 0, 1024);
  }

  private cell(address: number): number {
    return address / 4;
  }

  private async startMember(tid: number): Promise<Member> {
    this.pollModule ??= compileModule(this.host, pollModule());
    const poll = await this.pollModule;
    const worker = this.host.startWorker(WORKER_SOURCE, `heddle ${tid}`);
    const member = new Member(
      worker,
      tid,
      (message) => {
        if ("done" in message) this.finishRun(message.done);
      },
      (cause) => this.fail(tid, cause),
    );
    member.send({ start: { memory: this.memory, poll, tid, spinMilliseconds: this.options.spinMicroseconds / 1000 } });
    return member;
  }

  /** Starts the workers if they are not; resolves when they run. */
  private started: Promise<void> | undefined;
  start(): Promise<void> {
    this.started ??= (async () => {
      Atomics.add(this.control, this.cell(CONTROL.mail), 1); // the message that starts each
      const tids = Array.from({ length: this.options.threads - 1 }, (_, i) => i + 1);
      this.members = await Promise.all(tids.map((tid) => this.startMember(tid)));
      if (this.isClosed) this.close();
    })();
    return this.started;
  }

  private fail(tid: number, cause: unknown): void {
    if (this.isClosed) return;
    this.failure ??= new HeddleError("verify", `device wasm: thread ${tid} of ${this.options.threads} failed: ${String(cause)}`, { cause });
    this.leave();
    for (const run of this.runs.values()) run.reject(this.failure);
    this.runs.clear();
  }

  /** Sends all threads out. */
  private leave(): void {
    Atomics.store(this.control, this.cell(CONTROL.failed), 1);
    this.wake();
  }
  private wake(): void {
    Atomics.add(this.control, this.cell(CONTROL.wake), 1);
    Atomics.notify(this.control, this.cell(CONTROL.wake));
  }

  /** To all workers, which leave their loops to receive it. */
  private broadcast(message: ToWorker): void {
    if (this.members.length === 0) return;
    Atomics.add(this.control, this.cell(CONTROL.mail), 1);
    for (const member of this.members) member.send(message);
    this.wake();
  }

  private async settled(members: readonly Member[]): Promise<void> {
    try {
      await Promise.all(members.map((m) => m.settled()));
    } catch (cause) {
      throw this.failure ?? cause;
    }
  }

  /** Makes a module known to every thread. */
  async add(module: WebAssembly.Module): Promise<PoolList> {
    await this.start();
    const instance = await WebAssembly.instantiate(module, { env: { memory: this.memory } });
    const list: PoolList = { id: this.nextList++, module, exports: instance.exports as unknown as ListExports }; // driver.ts wrote the module
    this.lists.set(list.id, list);
    const load: ToWorker = { load: { list: list.id, module } };
    this.broadcast(load);
    this.leader?.send(load);
    await this.settled(this.members);
    return list;
  }

  remove({ id }: PoolList): void {
    this.lists.delete(id);
    if (this.isClosed || this.failure) return;
    this.broadcast({ unload: id });
    this.leader?.send({ unload: id });
  }

  private assertHealthy(): void {
    if (this.failure) throw this.failure;
  }

  /** Waits for an asynchronous run to end first. */
  run(list: PoolList, { from, to, stride, isAlone }: Job): void {
    this.assertHealthy();
    try {
      list.exports.run(list.id, from, to, stride, Number(isAlone), Number(this.host.canBlock));
    } catch (cause) {
      this.fail(0, cause);
    }
    if (this.control[this.cell(CONTROL.failed)])
      throw this.failure ?? new HeddleError("verify", "device wasm: another thread failed during this run");
  }

  /** The same on the leader's thread, after the asynchronous runs before it. */
  async runAsync(list: PoolList, job: Job): Promise<void> {
    this.assertHealthy();
    const leader = await this.startLeader();
    this.assertHealthy();
    const id = this.nextRun++;
    try {
      await new Promise<void>((resolve, reject) => {
        this.runs.set(id, { resolve, reject });
        leader.startRun({ run: { ...job, id, list: list.id } });
      });
    } finally {
      leader.endRun();
    }
  }

  private startingLeader: Promise<Member> | undefined;
  private startLeader(): Promise<Member> {
    this.startingLeader ??= (async () => {
      const leader = await this.startMember(0);
      for (const { id, module } of this.lists.values()) leader.send({ load: { list: id, module } });
      this.leader = leader;
      if (this.isClosed) leader.terminate();
      return leader;
    })();
    return this.startingLeader;
  }

  private finishRun(id: number): void {
    const run = this.runs.get(id);
    this.runs.delete(id);
    run?.resolve();
  }

  /** Ends all threads. No run may be in flight. */
  close(): void {
    this.isClosed = true;
    for (const member of this.leader ? [...this.members, this.leader] : this.members) member.terminate();
  }
}
