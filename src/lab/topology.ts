/** A topology: what a file says, checked and with numbers in place of texts. Pure apart from `loadTopology`, which reads the file. */
import { readFile, stat } from 'node:fs/promises';
import { isIP } from 'node:net';
import type { TSchema } from 'typebox';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { type Named, type ShapeFile, TopologyFile } from './schema.ts';
import { LOSS_FORM, parseLoss, parseQueue, parseRate, parseTime, QUEUE_FORM, type QueueLength, RATE_FORM, TIME_FORM } from './units.ts';
import { type KeyPath, YamlFile } from '../config/yaml-file.ts';

export interface Shape {
  /** Null: as fast as the machine goes. */
  readonly rate_bps: number | null;
  readonly delay_us: number;
  readonly queue: QueueLength;
  readonly loss_ppm: number;
}

export interface Link {
  readonly name: string;
  readonly ends: readonly [string, string];
  readonly forward: Shape;
  readonly backward: Shape;
}

export interface Interface {
  readonly name: string;
  readonly on: string;
  readonly address: string | null;
}

export interface Host {
  readonly name: string;
  readonly about: string;
  readonly interfaces: readonly Interface[];
  readonly routes: readonly { readonly to: string; readonly via: string }[];
  readonly forward: boolean;
  readonly nat: string | null;
  readonly udpBlocked: boolean;
  readonly role: 'tower' | 'node' | null;
  readonly site: string | null;
  /** A node that joins when a step needs it, not with the others. */
  readonly isLate: boolean;
}

export interface StepCall {
  readonly name: string;
  readonly parameters: Readonly<Record<string, unknown>>;
}

export interface Topology {
  readonly file: string;
  readonly name: string;
  readonly about: string;
  readonly seed: number;
  readonly switches: readonly string[];
  readonly hosts: ReadonlyMap<string, Host>;
  readonly links: ReadonlyMap<string, Link>;
  readonly steps: readonly StepCall[];
}

/** The parameters' schema of each step that a file may name. */
export type StepSchemas = ReadonlyMap<string, TSchema>;

/** A queue that nobody asked for: what a plain router has. */
const QUEUE_DEFAULT: QueueLength = { ms: 100 };

/** @throws not_found, config_invalid */
export async function loadTopology(file: string, steps: StepSchemas): Promise<Topology> {
  try {
    const facts = await stat(file);
    if (facts.size > limits.config_file_bytes_max) throw new SelvedgeError('body_too_large', { max: limits.config_file_bytes_max });
    return parseTopology(file, await readFile(file, 'utf8'), steps);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new SelvedgeError('not_found', { what: 'topology', name: file });
    throw asSelvedgeError(error, 'lab_failed');
  }
}

/** @throws config_invalid */
export function parseTopology(file: string, text: string, steps: StepSchemas): Topology {
  const yaml = new YamlFile(file, text);
  const read = yaml.check(TopologyFile);
  const switches = read.switches ?? [];
  const hosts = new Map(Object.entries(read.hosts).map(([name, host]) => [name, hostOf(name, host)]));
  const links = new Map(Object.entries(read.links ?? {}).map(([name, link]) => [name, linkOf(yaml, name, link)]));
  const calls = stepsOf(yaml, read.steps ?? [], steps);
  const topology = {
    file,
    name: read.name,
    about: read.about ?? '',
    seed: read.seed ?? 1,
    switches,
    hosts,
    links,
    steps: calls.map(({ name, parameters }) => ({ name, parameters })),
  };
  checkNames(yaml, topology);
  for (const link of links.values()) checkLink(yaml, topology, link);
  for (const host of hosts.values()) checkHost(yaml, topology, host);
  checkSteps(yaml, topology, calls, steps);
  yaml.end();
  return topology;
}

function hostOf(name: string, host: TopologyFile['hosts'][string]): Host {
  return {
    name,
    about: host.about ?? '',
    interfaces: Object.entries(host.interfaces).map(([interfaceName, entry]) => ({ name: interfaceName, on: entry.on, address: entry.address ?? null })),
    routes: host.routes ?? [],
    forward: host.forward ?? false,
    nat: host.nat ?? null,
    udpBlocked: host.udp === 'blocked',
    role: host.role ?? null,
    site: host.site ?? null,
    isLate: host.joins === 'later',
  };
}

function linkOf(yaml: YamlFile, name: string, link: NonNullable<TopologyFile['links']>[string]): Link {
  const both = shapeOf(yaml, ['links', name], link, { rate_bps: null, delay_us: 0, queue: QUEUE_DEFAULT, loss_ppm: 0 });
  const [first = '', second = ''] = link.ends;
  return {
    name,
    ends: [first, second],
    forward: shapeOf(yaml, ['links', name, 'forward'], link.forward ?? {}, both),
    backward: shapeOf(yaml, ['links', name, 'backward'], link.backward ?? {}, both),
  };
}

function shapeOf(yaml: YamlFile, at: KeyPath, given: ShapeFile, base: Shape): Shape {
  const part = <T>(key: keyof ShapeFile, parse: (text: string) => T | null, form: string, otherwise: T): T => {
    const text = given[key];
    if (text === undefined) return otherwise;
    const value = parse(text);
    if (value === null) yaml.fault([...at, key], `'${text}'`, form);
    return value ?? otherwise;
  };
  return {
    rate_bps: part('rate', parseRate, RATE_FORM, base.rate_bps),
    delay_us: part('delay', parseTime, TIME_FORM, base.delay_us),
    queue: part('queue', parseQueue, QUEUE_FORM, base.queue),
    loss_ppm: part('loss', parseLoss, LOSS_FORM, base.loss_ppm),
  };
}

/** `at`: where in the file's list it stands. */
function stepsOf(yaml: YamlFile, entries: readonly unknown[], schemas: StepSchemas): (StepCall & { readonly at: number })[] {
  return entries.flatMap((entry, index) => {
    const keys = typeof entry === 'object' && entry !== null && !Array.isArray(entry) ? Object.keys(entry) : [];
    const name = typeof entry === 'string' ? entry : keys.length === 1 ? keys[0] : undefined;
    const schema = name === undefined ? undefined : schemas.get(name);
    if (name === undefined || schema === undefined) {
      yaml.fault(['steps', index], name === undefined ? 'something else than one name' : `'${name}'`, `one of ${[...schemas.keys()].join(', ')}`);
      return [];
    }
    const parameters = typeof entry === 'string' ? {} : ((entry as Record<string, unknown>)[name] ?? {});
    const checked = yaml.checkPart(['steps', index, name], parameters, schema) as Record<string, unknown> | undefined;
    return [{ name, parameters: checked ?? {}, at: index }];
  });
}

function checkNames(yaml: YamlFile, { switches, hosts, links }: Topology): void {
  if (hosts.size === 0) yaml.fault(['hosts'], 'none', 'at least one host');
  for (const [index, name] of switches.entries()) {
    if (switches.indexOf(name) !== index || hosts.has(name) || links.has(name)) yaml.fault(['switches', index], `'${name}' once more`, 'a name of its own');
  }
  for (const name of links.keys()) if (hosts.has(name)) yaml.fault(['links', name], `'${name}', which a host has`, 'a name of its own');
}

function checkLink(yaml: YamlFile, { switches, hosts }: Topology, link: Link): void {
  if (link.ends[0] === link.ends[1]) yaml.fault(['links', link.name, 'ends'], `'${link.ends[0]}' twice`, 'two different ends');
  for (const [index, end] of link.ends.entries()) {
    const host = hosts.get(end);
    if (!host && !switches.includes(end)) yaml.fault(['links', link.name, 'ends', index], `'${end}'`, `one of ${[...hosts.keys(), ...switches].join(', ')}`);
    const plugged = host?.interfaces.filter((entry) => entry.on === link.name).length ?? 1;
    if (plugged !== 1) yaml.fault(['links', link.name, 'ends', index], `${plugged} interfaces of ${end} on this link`, 'exactly one');
  }
}

function checkHost(yaml: YamlFile, { switches, links }: Topology, host: Host): void {
  const at = ['hosts', host.name];
  for (const entry of host.interfaces) {
    const path = [...at, 'interfaces', entry.name];
    const link = links.get(entry.on);
    const places = [...switches, ...[...links.values()].filter((each) => each.ends.includes(host.name)).map((each) => each.name)];
    if (!switches.includes(entry.on) && !link?.ends.includes(host.name))
      yaml.fault([...path, 'on'], `'${entry.on}'`, `one of ${places.join(', ') || 'no switch or link is there'}`);
    if (entry.address !== null && !isCidr(entry.address))
      yaml.fault([...path, 'address'], `'${entry.address}'`, 'an address with its prefix length, such as 10.1.0.11/24');
  }
  for (const [index, route] of host.routes.entries()) {
    if (route.to !== 'default' && !isCidr(route.to)) yaml.fault([...at, 'routes', index, 'to'], `'${route.to}'`, "'default' or a network such as 10.2.0.0/16");
    if (isIP(route.via) === 0) yaml.fault([...at, 'routes', index, 'via'], `'${route.via}'`, 'an address such as 10.1.0.1');
  }
  const names = host.interfaces.map((entry) => entry.name);
  if (host.nat !== null && !names.includes(host.nat)) yaml.fault([...at, 'nat'], `'${host.nat}'`, `one of ${names.join(', ')}`);
  if (names.includes('lo')) yaml.fault([...at, 'interfaces', 'lo'], "'lo'", 'a name other than lo');
  if (host.role === 'node' && host.site === null) yaml.fault([...at, 'role'], 'node without a site', 'a node with site: NAME');
}

/** Whatever a step names must be there, or a run of minutes would find out. */
function checkSteps(yaml: YamlFile, { hosts, links }: Topology, calls: readonly (StepCall & { readonly at: number })[], schemas: StepSchemas): void {
  const nodes = [...hosts.values()].filter(({ role }) => role === 'node').map(({ name }) => name);
  const there: Readonly<Record<Named, readonly string[]>> = { host: [...hosts.keys()], node: nodes, link: [...links.keys()] };
  for (const { name, parameters, at } of calls) {
    const { properties = {} } = (schemas.get(name) ?? {}) as { readonly properties?: Readonly<Record<string, { readonly names?: Named }>> };
    for (const [key, value] of Object.entries(parameters)) {
      const names = properties[key]?.names;
      if (names !== undefined && !there[names].includes(String(value)))
        yaml.fault(['steps', at, name, key], `'${value}'`, `a ${names} of the topology: ${there[names].join(', ') || 'it has none'}`);
    }
  }
}

function isCidr(text: string): boolean {
  const [address = '', bits = '', ...rest] = text.split('/');
  const family = isIP(address);
  return family !== 0 && rest.length === 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128);
}
