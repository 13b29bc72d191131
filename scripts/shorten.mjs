// Names of members that nothing but classes of one bundle has → short names, the same in all its texts.
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { parser, wordsOf } from "./unread.mjs";

const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** All that objects of JavaScript and of browsers may be asked for: what the compiler knows of them. */
function platformWords() {
  const folder = dirname(createRequire(import.meta.url).resolve("typescript"));
  const files = readdirSync(folder).filter((name) => /^lib\..*d\.ts$/.test(name));
  return files.flatMap((name) => wordsOf(readFileSync(join(folder, name), "utf8")));
}

/**
 * Which names there are in texts: `classes` have members of these, as may what is made of them; `others` occur in texts, as keys of plain objects,
 * or as members of classes that callers are handed, so that something may ask for them in another way; `count` of all.
 */
function namesIn(ts, texts, isPublic) {
  const found = { classes: new Set(), others: new Set(), count: new Map() };
  const visit = (node, text) => {
    const { parent } = node;
    if (ts.isIdentifier(node)) {
      const isNamed = parent.name === node;
      const isOwn = isNamed && ts.isPropertyAccessExpression(parent) && parent.expression.kind === ts.SyntaxKind.ThisKeyword;
      if (isOwn || (isNamed && ts.isClassElement(parent) && ts.isClassLike(parent.parent)))
        found[isPublic(text, node.pos) ? "others" : "classes"].add(node.text);
      else if (isNamed && ts.isObjectLiteralElement(parent)) found.others.add(node.text);
      found.count.set(node.text, (found.count.get(node.text) ?? 0) + 1);
    } else if (typeof node.text === "string" && node !== node.getSourceFile()) {
      for (const word of wordsOf(node.text)) found.others.add(word);
    }
    ts.forEachChild(node, (child) => visit(child, text));
  };
  for (const [file, text] of texts) visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true), text);
  return found;
}

/** Name → short name. `isPublic(text, place)` tells classes that are handed to callers of the bundle. */
export async function shortNames(texts, isPublic) {
  const { classes, others, count } = namesIn(await parser(), texts, isPublic);
  for (const word of platformWords()) others.add(word);
  const long = [...classes].filter((name) => !others.has(name)).sort((a, b) => count.get(b) - count.get(a) || (a < b ? -1 : 1));
  const shorts = [...LETTERS].flatMap((first) => ["", ...LETTERS].map((second) => first + second));
  const free = shorts.filter((name) => !count.has(name) && !others.has(name)).sort((a, b) => a.length - b.length);
  return new Map(long.slice(0, free.length).map((name, i) => [name, free[i]]));
}
