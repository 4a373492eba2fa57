/** `selvedge session …`: what this caller may do, tokens for tools that cannot show a certificate, and the sessions that there are. */
import { Command } from 'commander';
import { limits } from '../../src/base/limits.ts';
import { type ControlCall, callControl } from '../../src/node/control-client.ts';
import { everyPage, readBegun, readSelf, readSession, readSessions, type Session } from './answers-access.ts';
import { duration, scopeName, sessionId, type TowerFlags, towerOf, withTower } from './arguments.ts';
import { formatSeconds, printJson, printLine, printTable, printable } from './output.ts';

interface SessionFlags extends TowerFlags {
  readonly json?: boolean;
}

interface CreateFlags extends SessionFlags {
  readonly scope?: string[];
  readonly expires?: number;
}

const DEFAULT_LIFE_MS = 3_600_000;

export function sessionCommand(): Command {
  const command = new Command('session').description('API sessions: short-lived tokens, and who has them');
  withTower(command.command('show').description('who the tower takes this caller for, and what that allows'))
    .addHelpText('after', '\nExample:\n  selvedge session show --identity ada.json')
    .action(async (flags: SessionFlags) => {
      const self = readSelf(await callControl(call(flags, 'GET', '/v1/self')));
      if (flags.json) printJson(self);
      else printLine(`${printable(self.actor)}, scopes ${self.scopes.join(', ')}`);
    });
  withTower(command.command('create').description('begin a session as an operator, and print its token, once'))
    .option('--scope <name>', 'no more than this: management, client; may be given twice (default: what the operator has)', (text, before: string[] = []) => [
      ...before,
      scopeName(text),
    ])
    .option('--expires <time>', 'how long it lasts: 90s, 15m, 1h (default: 1h, at most 12h)', duration('expires'))
    .addHelpText(
      'after',
      '\nThe token is all that goes to standard output.\n\nExample:\n  (umask 077; selvedge session create --identity ada.json --scope client > token)',
    )
    .action(async ({ scope, expires = DEFAULT_LIFE_MS, ...flags }: CreateFlags) => {
      const body = { life_ms: Math.min(expires, limits.api_session_life_ms_max), ...(scope !== undefined && { scopes: [...new Set(scope)] }) };
      const { token, session } = readBegun(await callControl(call(flags, 'POST', '/v1/sessions', body)));
      if (flags.json) printJson({ token, ...session });
      else {
        printLine(token);
        process.stderr.write(`session ${session.id}, valid until ${new Date(session.expires_ms).toISOString()}; its token is not shown again\n`);
      }
    });
  withTower(command.command('list').description('the sessions there are, without their tokens'))
    .addHelpText('after', '\nExample:\n  selvedge session list --json')
    .action(async (flags: SessionFlags) => {
      const sessions = await everyPage((query) => call(flags, 'GET', `/v1/sessions${query}`), readSessions);
      if (flags.json) printJson({ sessions });
      else printTable(['ID', 'ACTOR', 'SCOPES', 'LEFT'], sessions.map(row));
    });
  withTower(command.command('revoke').description('end a session, and what is being answered to it').argument('<id>', 'as `session list` tells it', sessionId))
    .addHelpText('after', '\nExample:\n  selvedge session revoke c719885f0f4d')
    .action(async (id: string, flags: SessionFlags) => {
      const gone = readSession(await callControl(call(flags, 'DELETE', `/v1/sessions/${id}`)));
      if (flags.json) printJson(gone);
      else printLine(`session ${gone.id} of ${printable(gone.actor)} has ended`);
    });
  return command;
}

function row({ id, actor, scopes, expires_ms }: Session): string[] {
  return [id, printable(actor), scopes.join(', '), formatSeconds((expires_ms - Date.now()) / 1_000)];
}

function call(flags: SessionFlags, method: ControlCall['method'], path: string, body?: Record<string, unknown>): ControlCall {
  return { ...towerOf(flags), needs: 'tower', method, path, ...(body && { body }) };
}
