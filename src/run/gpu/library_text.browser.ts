// What there is to see of a library's kernel: browsers have no library.

export const libraryText: typeof import("./library_text.ts").libraryText = () => "";
