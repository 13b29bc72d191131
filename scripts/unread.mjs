// Cuts from JavaScript and TypeScript what no page reads: operators' gradients and samples, what invariants say, members of classes that nothing names.

/** Members of operators that only tests and training read: without them the bundle for browsers is a tenth smaller. */
const NOT_FOR_RUNNING = new Set(["samples", "vjp"]);

/** Called without being named. */
const CALLED_BY_LANGUAGE = ["constructor", "then", "toString", "toJSON", "valueOf", "next", "return"];

/** The compiler's own. */
export const parser = async () => (await import("typescript")).default;

/** `text` without these stretches of it. */
const without = (text, cuts) =>
  cuts
    .sort((a, b) => b.from - a.from) // from the end, so that places stay
    .reduce((rest, { from, to }) => rest.slice(0, from) + rest.slice(to), text);

/** Whether what is called tells of a bug in heddle: which one, the stack says too. */
const isInvariant = (ts, node) => ts.isCallExpression(node) && node.expression.getText() === "invariant" && node.arguments.length === 2;

/** The text of a source without operators' members that pages do not read, and without what invariants say. */
export async function forRunning(text, path) {
  const ts = await parser();
  const cuts = [];
  const isOperator = path.includes("/src/ops/");
  const visit = (node) => {
    const members = isOperator && ts.isObjectLiteralExpression(node) ? node.properties : [];
    const unread = members.filter(({ name }) => name && ts.isIdentifier(name) && NOT_FOR_RUNNING.has(name.text));
    for (const { pos, end } of unread) cuts.push({ from: pos, to: text[end] === "," ? end + 1 : end });
    if (isInvariant(ts, node)) cuts.push({ from: node.arguments[0].end, to: node.arguments[1].end });
    ts.forEachChild(node, (child) => {
      if (!unread.includes(child)) visit(child);
    });
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true));
  return without(text, cuts);
}

export const wordsOf = (text) => text.match(/[\w$]+/g) ?? [];

/** Functions of a module, and methods and accessors of classes: read only if something names them. `isMember` tells the latter, which no bundler leaves out. */
function namedParts(ts, source, isPublic) {
  const found = [];
  const visit = (node) => {
    const isFunction = ts.isFunctionDeclaration(node) && node.parent === source;
    const isMember = (ts.isMethodDeclaration(node) || ts.isAccessor(node)) && ts.isClassLike(node.parent) && !isPublic(node.pos);
    if ((isFunction || isMember) && node.name && ts.isIdentifier(node.name)) {
      found.push({ name: node.name.text, isMember, from: node.pos, to: node.end });
    }
    if (!isFunction && !isMember) ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

/**
 * Texts of one bundle, by file, without methods and accessors that no code which can run names: neither by a word of its own nor in a text.
 * `isPublic(text, place)` tells classes that are handed to callers of the bundle.
 */
export async function withoutUnnamed(texts, isPublic) {
  const ts = await parser();
  const parts = [];
  const read = new Set(CALLED_BY_LANGUAGE);
  const add = (text) => {
    for (const word of wordsOf(text)) read.add(word);
  };
  for (const [file, text] of texts) {
    const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
    const own = namedParts(ts, source, (place) => isPublic(text, place));
    add(without(text, [...own]));
    parts.push(...own.map((part) => ({ ...part, file, text: text.slice(part.from, part.to) })));
  }
  let unread = parts;
  for (let found = parts; found.length > 0; ) {
    found = unread.filter(({ name }) => read.has(name));
    unread = unread.filter(({ name }) => !read.has(name));
    for (const { text } of found) add(text);
  }
  const cutsOf = (file) => unread.filter((part) => part.isMember && part.file === file);
  return new Map([...texts].map(([file, text]) => [file, without(text, cutsOf(file))]));
}
