// Cuts from JavaScript and TypeScript what no page reads: operators' gradients and samples, what invariants say, members of classes that nothing names.

/** Members of operators that only tests and training read: without them the bundle for browsers is a tenth smaller. */
const NOT_FOR_RUNNING = new Set(["samples", "vjp"]);

/** Called without being named. */
const CALLED_BY_LANGUAGE = ["constructor", "then", "toString", "toJSON", "valueOf", "next", "return"];

/** The compiler's own. */
export const parser = async () => (await import("typescript")).default;

/** `text` without these stretches of it, or with what stands in for them. */
const without = (text, cuts) =>
  cuts
    .sort((a, b) => b.from - a.from) // from the end, so that places stay
    .reduce((rest, { from, to, by = "" }) => rest.slice(0, from) + by + rest.slice(to), text);

/** Whether what is called tells of a bug in heddle: which one, the stack says too. */
const isInvariant = (ts, node) => ts.isCallExpression(node) && node.expression.getText() === "invariant" && node.arguments.length === 2;

/** Constants of a module that nothing in it names, nor can anything else: none acts when it is made. */
function unnamedConstants(ts, source) {
  const count = new Map();
  const visit = (node) => {
    if (ts.isIdentifier(node)) count.set(node.text, (count.get(node.text) ?? 0) + 1);
    ts.forEachChild(node, visit);
  };
  visit(source);
  const isUnnamed = ({ name }) => ts.isIdentifier(name) && count.get(name.text) === 1;
  return source.statements.filter((s) => ts.isVariableStatement(s) && !s.modifiers && s.declarationList.declarations.every(isUnnamed));
}

/** What no device of a browser has, as text that says so: it is no `"cuda"`, and multiplies no fragments of matrices. */
function absentIn(ts, node) {
  if (ts.isBinaryExpression(node) && ts.isStringLiteral(node.right) && node.right.text === "cuda") {
    if (node.operatorToken.kind === ts.SyntaxKind.EqualsEqualsEqualsToken) return "false";
    if (node.operatorToken.kind === ts.SyntaxKind.ExclamationEqualsEqualsToken) return "true";
  }
  return ts.isCallExpression(node) && /\.fragments\.includes$/.test(node.expression.getText()) ? "false" : undefined;
}

/** The text of a source without operators' members that pages do not read and what only these need, and without what invariants say. */
export async function forRunning(text, path) {
  const ts = await parser();
  const cuts = [];
  const isOperator = path.includes("/src/ops/");
  const isUnread = ({ name }) => name && ts.isIdentifier(name) && NOT_FOR_RUNNING.has(name.text);
  const visit = (node) => {
    const by = absentIn(ts, node);
    if (by) {
      cuts.push({ from: node.getStart(), to: node.end, by });
      return;
    }
    const unread = isOperator && ts.isObjectLiteralExpression(node) ? node.properties.filter(isUnread) : [];
    for (const { pos, end } of unread) cuts.push({ from: pos, to: text[end] === "," ? end + 1 : end });
    // nothing is given by that name: what stands in for it goes
    if (isOperator && ts.isBindingElement(node) && isUnread(node) && node.initializer) cuts.push({ from: node.name.end, to: node.end });
    else if (isInvariant(ts, node)) cuts.push({ from: node.arguments[0].end, to: node.arguments[1].end });
    ts.forEachChild(node, (child) => {
      if (!unread.includes(child)) visit(child);
    });
  };
  const parse = (read) => ts.createSourceFile(path, read, ts.ScriptTarget.Latest, true);
  visit(parse(text));
  let left = without(text, cuts);
  for (let length = -1; isOperator && length !== left.length; ) {
    length = left.length;
    const unnamed = unnamedConstants(ts, parse(left));
    left = without(
      left,
      unnamed.map(({ pos, end }) => ({ from: pos, to: end })),
    );
  }
  return left;
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
