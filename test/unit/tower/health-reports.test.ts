/** Nodes tell their tower how they are: on change, at an interval, within bounds, each for itself alone. */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { HealthReporter } from '../../../src/node/health-reporter.ts';
import { checkReport, makeReport, REPORT_SERVICE, type Report } from '../../../src/observe/report.ts';
import { Observatory } from '../../../src/observe/observatory.ts';
import { HealthReports } from '../../../src/tower/health-reports.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';
import { MemoryNet } from '../services/memory-mesh.ts';

const random = { bytes: (length: number) => new Uint8Array(length), unit: () => 0 };
const empty: Report = { snapshot_version: 1, snapshot_expires_ms: 2, certificate_ends_ms: 3, draining: false, channels: [], unwell: [], failures: [] };
const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

function setUp() {
  const timers = new VirtualTimers();
  const net = new MemoryNet();
  const failures: string[] = [];
  const reports = new HealthReports(net.mesh('tower'), timers, ({ code }, node) => failures.push(`${node} ${code}`));
  return { timers, net, reports, failures };
}

t.test('a report comes at the start, on change after some seconds, and at the interval unchanged', async (t) => {
  const { timers, net, reports } = setUp();
  let version = 1;
  let asked = 0;
  const report = () => ({ ...empty, snapshot_version: version, draining: asked++ < 0 });
  const reporter = new HealthReporter({ mesh: net.mesh('aaaaaaaaaaaa'), timers, random, report });
  await timers.advance(1);
  const first = reports.of('aaaaaaaaaaaa');
  t.match(first, { snapshot_version: 1 });
  version = 2;
  reporter.poke();
  await timers.advance(limits.report_ms_min - 2);
  t.equal(reports.of('aaaaaaaaaaaa')?.snapshot_version, 1, 'not yet');
  await timers.advance(3);
  t.equal(reports.of('aaaaaaaaaaaa')?.snapshot_version, 2);
  const { at_ms } = reports.of('aaaaaaaaaaaa') ?? { at_ms: 0 };
  for (let poke = 0; poke < 5; poke++) {
    reporter.poke();
    await timers.advance(limits.report_ms_min + 1);
  }
  t.equal(reports.of('aaaaaaaaaaaa')?.at_ms, at_ms, 'nothing has changed');
  await timers.advance(limits.report_ms);
  t.ok((reports.of('aaaaaaaaaaaa')?.at_ms ?? 0) > at_ms);
  t.equal(net.opened, 1, 'over one flow');
  reports.forget('aaaaaaaaaaaa');
  t.equal(reports.of('aaaaaaaaaaaa'), null);
  reporter.close();
  t.equal(timers.waiting, 0);
});

t.test('what is no report, too large, or too often ends the flow with its code, and leaves the last one', async (t) => {
  const { timers, net, reports, failures } = setUp();
  const mesh = net.mesh('aaaaaaaaaaaa');
  const tell = async (...messages: Uint8Array[]) => {
    const flow = mesh.open('tower', 'health', 'messages', REPORT_SERVICE);
    for (const message of messages) flow.send(message);
    await timers.advance(1);
  };
  await tell(encode(empty));
  await tell(encode({ ...empty, draining: 'yes' }));
  await tell(encode({ ...empty, failures: [{ stage: 'dial', code: 'no_such_code', count: 1 }] }));
  await tell(encode({ ...empty, more: 1 }));
  await tell(new Uint8Array(limits.report_bytes_max + 1));
  t.same(failures, [...Array.from({ length: 3 }, () => 'aaaaaaaaaaaa request_invalid'), 'aaaaaaaaaaaa body_too_large']);
  t.match(reports.of('aaaaaaaaaaaa'), { snapshot_version: 1 });
  await tell(...Array.from({ length: limits.reports_per_minute_max + 1 }, () => encode(empty)));
  t.equal(failures.at(-1), 'aaaaaaaaaaaa rate_limited');
  const wrong = mesh.open('tower', 'telemetry', 'messages', REPORT_SERVICE);
  t.match(await wrong.closed, { code: 'channel_class_denied' });
});

t.test('a report is bounded, whatever has failed', async (t) => {
  const seen = new Observatory({ wall: () => 0 });
  const log = seen.listen(() => {});
  for (let count = 0; count < 3; count++) log('dial failed', { peer: 'b', code: 'network_unreachable' });
  log('session refused', { code: 'wrong_cluster' });
  const facts = () => ({ snapshot_version: 1, snapshot_expires_ms: 2, certificate_ends_ms: 3 });
  const drain = () => ({ state: 'none', flows: 0, forced: 0, left_ms: null }) as const;
  const report = makeReport(seen, { channels: () => [], drain, facts });
  t.same(report.failures, [
    { stage: 'dial', code: 'network_unreachable', count: 3 },
    { stage: 'accept', code: 'wrong_cluster', count: 1 },
  ]);
  t.same(checkReport(JSON.parse(JSON.stringify(report))), report);
});
