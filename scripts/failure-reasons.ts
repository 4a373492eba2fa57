/** Writes docs/failure-reasons.md from the error table: `npx node scripts/failure-reasons.ts`. A test holds the two together. */
import { writeFileSync } from 'node:fs';
import { type ErrorCode, type ErrorRow, errorTable, failureReasons } from '../src/base/errors.ts';

export const failureReasonsPath = new URL('../docs/failure-reasons.md', import.meta.url);

const head = `# Failure reasons

Every refusal that a user, a peer or an operator can meet has a code. The CLI prints it in brackets, with \`--json\` as
\`{"error":{"code","message","remedy","facts"}}\` on standard error; the HTTP APIs answer with the inner object alone, \`{"code","message","remedy","facts"}\`; logs have it as \`code\`.
Messages and facts hold no secret. The number is what crosses the wire between two ends and is never used again for anything else.

This page is made from the error table (\`src/base/errors.ts\`) by \`npx node scripts/failure-reasons.ts\`.
`;

export function renderFailureReasons(): string {
  const channel: ErrorCode[] = [...failureReasons];
  const others = codes().filter((code) => !channel.includes(code));
  return [
    head,
    '## Why a channel fails\n',
    'These are the reasons that a channel may end with, in `selvedge status`, logs and metrics.\n',
    table(channel),
    '## Everything else\n',
    table(others),
  ].join('\n');
}

function codes(): ErrorCode[] {
  return (Object.keys(errorTable) as ErrorCode[]).sort((left, right) => errorTable[left].wire - errorTable[right].wire);
}

function table(rows: readonly ErrorCode[]): string {
  const cell = (text: string) => text.replaceAll('|', '\\|');
  const lines = rows.map((code) => `| \`${code}\` | ${errorTable[code].wire} | ${cell(errorTable[code].message)} | ${cell(remediesOf(errorTable[code]))} |`);
  return ['| code | wire | message | what to do |', '|---|---|---|---|', ...lines, ''].join('\n');
}

function remediesOf({ remedy, remedies = {} }: ErrorRow): string {
  return [remedy, ...Object.entries(remedies).map(([what, text]) => `*${what}*: ${text}`)].join(' ');
}

if (import.meta.main) writeFileSync(failureReasonsPath, renderFailureReasons());
