/** After the table: the status of every channel, until Ctrl-C. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Fleet } from './fleet.ts';
import { channelTable } from './table.ts';

const REFRESH_MS = 2_000;
/** Cursor home, and clear the screen. */
const CLEAR = '\u001b[H\u001b[2J';

export async function watchFleet(
  fleet: Fleet | null,
  options: { readonly print: (text: string) => void; readonly terminal: boolean },
  signal: AbortSignal,
): Promise<void> {
  options.print('\nstaying up until Ctrl-C');
  let shown = '';
  while (!signal.aborted) {
    const channels =
      fleet === null
        ? []
        : (await Promise.all(fleet.nodes.map(async ({ name: node }) => (await fleet.channels(node)).map((channel) => ({ node, ...channel }))))).flat();
    // A terminal is drawn anew each time; elsewhere only a change is worth a line.
    const gist = channels.map((channel) => [channel.node, channel.name, channel.state, channel.transport].join()).join(';');
    if (channels.length > 0 && (options.terminal || gist !== shown))
      options.print(`${options.terminal ? CLEAR : '\n'}${channelTable(channels)}\n\nCtrl-C ends the lab and removes all that it made`);
    shown = gist;
    await pause(REFRESH_MS, undefined, { signal }).catch(() => {});
  }
}
