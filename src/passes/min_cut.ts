// Splits the vertices of a network in two at the least cost of what leads from the first part to the second (Dinic's algorithm).

/** An arc and, under the next number, its way back; even numbers are arcs as given. */
export class FlowNetwork {
  private readonly heads: number[] = [];
  private readonly room: number[] = [];
  private readonly arcs: number[][] = [];

  vertex(): number {
    return this.arcs.push([]) - 1;
  }

  /** What it costs when `from` is in the first part and `to` is not; Infinity: that must not be. */
  arc(from: number, to: number, cost: number): void {
    if (cost <= 0) return;
    for (const [a, b, room] of [[from, to, cost], [to, from, 0]]) this.arcs[a].push(this.heads.push(b) - 1) && this.room.push(room); // biome-ignore format: short
  }

  /** Steps from `source` along arcs with room. */
  private distances(source: number): Int32Array {
    const far = new Int32Array(this.arcs.length).fill(-1);
    far[source] = 0;
    const queue = [source];
    for (const v of queue)
      for (const arc of this.arcs[v]) {
        const to = this.heads[arc];
        if (this.room[arc] > 0 && far[to] < 0) {
          far[to] = far[v] + 1;
          queue.push(to);
        }
      }
    return far;
  }

  /** Sends as much as one shortest path takes; 0: there is none left. Explicit, as paths may be longer than the stack is deep. */
  private augment(source: number, sink: number, far: Int32Array, next: Int32Array): number {
    const path: number[] = [];
    let v = source;
    while (v !== sink) {
      const own = this.arcs[v];
      while (next[v] < own.length && !(this.room[own[next[v]]] > 0 && far[this.heads[own[next[v]]]] === far[v] + 1)) next[v]++;
      if (next[v] < own.length) {
        path.push(own[next[v]]);
        v = this.heads[own[next[v]]];
      } else {
        const last = path.pop();
        if (last === undefined) return 0;
        v = this.heads[last ^ 1];
        next[v]++;
      }
    }
    const sent = path.reduce((least, arc) => Math.min(least, this.room[arc]), Number.POSITIVE_INFINITY);
    for (const arc of path) {
      this.room[arc] -= sent;
      this.room[arc ^ 1] += sent;
    }
    return sent;
  }

  /** Which vertices are in the source's part: of the cheapest cuts the one with the smallest such part. */
  cut(source: number, sink: number): readonly boolean[] {
    for (let far = this.distances(source); far[sink] >= 0; far = this.distances(source)) {
      const next = new Int32Array(this.arcs.length);
      while (this.augment(source, sink, far, next) > 0);
    }
    return [...this.distances(source)].map((d) => d >= 0);
  }
}
