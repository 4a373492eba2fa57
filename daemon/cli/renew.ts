/** `selvedge renew`: the daemon's certificate is renewed now, whenever it is due. */
import { Command } from 'commander';
import { callControl } from '../../src/node/control-client.ts';
import { readRenewed } from './answers.ts';
import { type SocketFlags, socketOf, withSocket } from './arguments.ts';
import { printable, printJson, printLine } from './output.ts';

interface Flags extends SocketFlags {
  readonly json?: boolean;
}

export function renewCommand(): Command {
  return withSocket(new Command('renew').description('renew the certificate of this host now; no channel is dropped'))
    .option('--json', 'print JSON')
    .addHelpText('after', '\nThe daemon renews by itself when two thirds of the life are over.\n\nExample:\n  selvedge renew')
    .action(async (flags: Flags) => {
      const renewed = readRenewed(await callControl({ socketPath: socketOf(flags), method: 'POST', path: '/v1/renew' }));
      const { before, now, not_after_ms, channels_moved, channels } = renewed;
      if (flags.json) printJson(renewed);
      else {
        printLine(`renewed until ${new Date(not_after_ms).toUTCString()}`);
        printLine(printable(`before  ${before}`));
        printLine(printable(`now     ${now}`));
        printLine(`${channels_moved} of ${channels} channels that this host dialed use it already`);
      }
    });
}
