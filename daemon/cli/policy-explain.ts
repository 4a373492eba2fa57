/** `selvedge policy explain FROM TO CLASS`: whether a flow is allowed, why, and what decided; by what the tower or the node that is asked knows. */
import { Command } from 'commander';
import type { TrafficClass } from '../../src/channel/classes.ts';
import { callControl } from '../../src/node/control-client.ts';
import { flag, list, maybe, shape, text, whole } from './answers.ts';
import { remoteOf, socketOf, type TowerFlags, trafficClass, withRemote, withSocket } from './arguments.ts';
import { printable, printJson, printLine } from './output.ts';

const decision = { allowed: flag, code: maybe(text), reason: text, by: text, name: maybe(text) };
const end = shape({ id: text, name: text, site: text, tenant: maybe(text), roles: list(text), gone: maybe(text) });
const readExplained = whole(
  shape({ from: end, to: end, class: text, service: maybe(text), degraded: flag, ...decision, channel: shape(decision), view: text }),
);

interface Flags extends TowerFlags {
  readonly service?: string;
  readonly degraded?: boolean;
  readonly json?: boolean;
}

export function policyExplainCommand(): Command {
  return withRemote(withSocket(new Command('explain').description('whether a flow is allowed, why, and which document decided')))
    .argument('<from>', 'node that opens it: a name or id, or `tower`')
    .argument('<to>', 'node that accepts it')
    .argument('<class>', 'class of traffic', trafficClass)
    .option('--service <name>', 'a declared service that is dialed')
    .option('--degraded', 'while the tower is away')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nThe tower answers by all documents there are, a node by what it was told, of its own flows.\n\nExamples:\n  selvedge policy explain till-1 printer input\n  selvedge policy explain till-1 printer file_transfer --service print --json',
    )
    .action(async (from: string, to: string, cls: TrafficClass, flags: Flags) => {
      const query = new URLSearchParams({
        from,
        to,
        class: cls,
        ...(flags.service !== undefined && { service: flags.service }),
        ...(flags.degraded && { degraded: 'true' }),
      });
      const place = remoteOf(flags) ?? { socketPath: socketOf(flags) };
      const explained = readExplained(await callControl({ ...place, method: 'GET', path: `/v1/policy/explain?${query}` }));
      if (flags.json) return printJson(explained);
      const { service, allowed, code, reason, by, name, channel, view } = explained;
      const what = `${explained.from.name} to ${explained.to.name}, class ${explained.class}${service === null ? '' : `, service ${service}`}`;
      printLine(printable(`${what}: ${allowed ? 'allowed' : `denied [${code}]`}`));
      printLine(printable(`because ${reason}`));
      printLine(printable(`decided by ${name === null ? by : `${by} ${name}`}, as the ${view} sees it`));
      if (!channel.allowed) printLine(printable(`they have no channel [${channel.code}]: ${channel.reason}`));
    });
}
