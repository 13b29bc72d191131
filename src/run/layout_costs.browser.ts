// Browsers count nothing (see passes/layout_plan.browser.ts).
export const cpuLayoutCosts = undefined;
export const gpuLayoutCosts = undefined;
