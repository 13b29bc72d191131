// In browsers nothing is counted: the code that does takes more time to load than it saves there.
export const planLayouts: typeof import("./layout_plan.ts").planLayouts = () => null;
