// States: programs of browsers have none.

export const planStates: typeof import("./state.ts").planStates = (steps, graph) => ({ steps, states: [], outputs: graph.outputs });
