// Products and convolutions by a vendor's library: none, browsers have no such thing.

export const libraryCalls: typeof import("./library_calls.ts").libraryCalls = () => null;
