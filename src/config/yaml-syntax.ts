/** Where in a text a fault of its YAML stands: the parser tells where it noticed, a person looks for what they wrote. */
import { type Document, isCollection, isScalar, type Node, visit, type YAMLError } from 'yaml';

export interface SyntaxFault {
  /** Of the text, in characters. */
  readonly offset: number;
  readonly message: string;
}

export function syntaxFaults(document: Document): SyntaxFault[] {
  const problems: readonly YAMLError[] = [...document.errors, ...document.warnings];
  return problems.flatMap((problem): SyntaxFault[] => {
    const [start, end] = problem.pos;
    // A line that is indented too far is told twice, both times at the value before it: it ends the second.
    if (problem.code === 'BLOCK_AS_IMPLICIT_KEY' && problems.some((other) => other.code === 'MULTILINE_IMPLICIT_KEY' && other.pos[0] === start)) return [];
    const isIndented = problem.code === 'MULTILINE_IMPLICIT_KEY' && problems.some((other) => other.code === 'BLOCK_AS_IMPLICIT_KEY' && other.pos[0] === start);
    if (isIndented) return [{ offset: end, message: 'indented too far, or the line before it should have no value' }];
    // What is not closed is noticed where something else begins, or at the end of the file.
    if (/^Missing closing|end with a /.test(problem.message)) return [{ offset: openedAt(document, start), message: `${problem.message}; it begins here` }];
    return [{ offset: start, message: problem.message }];
  });
}

/** The first alias without its anchor, else the first alias. */
export function aliasOffset(document: Document): number {
  const aliases: { offset: number; isResolved: boolean }[] = [];
  visit(document, {
    Alias: (_key, alias) => void aliases.push({ offset: alias.range?.[0] ?? 0, isResolved: alias.resolve(document) !== undefined }),
  });
  return (aliases.find(({ isResolved }) => !isResolved) ?? aliases[0])?.offset ?? 0;
}

/** Where the innermost text in quotes, list or map in brackets begins that reaches to `offset`. */
function openedAt(document: Document, offset: number): number {
  let found = offset;
  visit(document, (_key, node) => {
    if (isOpened(node) && node.range && node.range[0] < offset && node.range[2] >= offset) found = node.range[0];
  });
  return found;
}

function isOpened(node: unknown): node is Node {
  if (isScalar(node)) return node.type === 'QUOTE_DOUBLE' || node.type === 'QUOTE_SINGLE';
  return isCollection(node) && node.flow === true;
}
