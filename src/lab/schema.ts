/** The form of a topology file. Every leaf says in its description what is allowed; errors and docs/lab.md use these words. */
import { type Static, Type } from 'typebox';
import { limits } from '../base/limits.ts';
import { LOSS_FORM, QUEUE_FORM, RATE_FORM, TIME_FORM } from './units.ts';

const NAME_PATTERN = '^[a-z][a-z0-9-]{0,23}$';
const NAME_FORM = 'a name: a lower-case letter, then letters, digits and hyphens, at most 24';
const INTERFACE_PATTERN = '^[a-z][a-z0-9-]{0,14}$';
const INTERFACE_FORM = 'an interface name: a lower-case letter, then letters, digits and hyphens, at most 15';

const strict = { additionalProperties: false };
const name = (what: string) => Type.String({ pattern: NAME_PATTERN, description: `${what}, ${NAME_FORM}` });
const named = <T extends Parameters<typeof Type.Record>[1]>(entry: T, pattern: string, form: string, description: string) =>
  Type.Record(Type.String({ pattern }), entry, { ...strict, description, keyForm: form, maxProperties: limits.lab_parts_max });

const Interface = Type.Object(
  {
    on: name('the switch or link it is plugged into'),
    address: Type.Optional(Type.String({ maxLength: 64, description: 'an address with its prefix length, such as 10.1.0.11/24' })),
  },
  { ...strict, description: 'an interface: on, address' },
);

const Route = Type.Object(
  {
    to: Type.String({ maxLength: 64, description: "'default' or a network such as 10.2.0.0/16" }),
    via: Type.String({ maxLength: 64, description: 'the address of the next router, such as 10.1.0.1' }),
  },
  { ...strict, description: 'a route: to, via' },
);

const Host = Type.Object(
  {
    about: Type.Optional(Type.String({ maxLength: 200, description: 'text, at most 200 characters' })),
    interfaces: named(Interface, INTERFACE_PATTERN, INTERFACE_FORM, 'interfaces by name'),
    routes: Type.Optional(Type.Array(Route, { maxItems: limits.lab_parts_max, description: 'a list of routes' })),
    forward: Type.Optional(Type.Boolean({ description: 'true (a router) or false' })),
    nat: Type.Optional(Type.String({ pattern: INTERFACE_PATTERN, description: 'the interface behind whose address the others hide' })),
    udp: Type.Optional(Type.Union([Type.Literal('passes'), Type.Literal('blocked')], { description: 'passes or blocked' })),
    role: Type.Optional(Type.Union([Type.Literal('tower'), Type.Literal('node')], { description: 'tower or node: what the steps run there' })),
    site: Type.Optional(name('the site of a node')),
    joins: Type.Optional(
      Type.Union([Type.Literal('first'), Type.Literal('later')], { description: 'first (in the step enroll) or later (when a step needs it)' }),
    ),
  },
  { ...strict, description: 'a host: about, interfaces, routes, forward, nat, udp, role, site, joins' },
);

const shape = {
  rate: Type.Optional(Type.String({ maxLength: 32, description: RATE_FORM })),
  delay: Type.Optional(Type.String({ maxLength: 32, description: TIME_FORM })),
  queue: Type.Optional(Type.String({ maxLength: 32, description: QUEUE_FORM })),
  loss: Type.Optional(Type.String({ maxLength: 32, description: LOSS_FORM })),
};
const Shape = Type.Object(shape, { ...strict, description: 'what one direction does: rate, delay, queue, loss' });

const Link = Type.Object(
  {
    ends: Type.Array(name('a host or a switch'), { minItems: 2, maxItems: 2, description: 'two hosts or switches, such as [gateway, internet]' }),
    ...shape,
    forward: Type.Optional(Shape),
    backward: Type.Optional(Shape),
  },
  { ...strict, description: 'a link: ends, rate, delay, queue, loss, forward, backward' },
);

/** A step is `name` alone or `name: {parameters}`; its parameters are checked by the step's own schema. */
const Step = Type.Unsafe<string | Record<string, unknown>>(Type.Unknown({ description: 'a step: its name, or its name with parameters' }));

/** What a step's parameter may name: one of the topology's own, checked when the file is read. */
export type Named = 'host' | 'node' | 'link';

export const nameOf = (names: Named, description: string) => Type.String({ description, names });

export const TopologyFile = Type.Object(
  {
    name: name('the name of the topology'),
    about: Type.Optional(Type.String({ maxLength: 500, description: 'text, at most 500 characters' })),
    seed: Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 32, description: 'a whole number from 0 to 4294967296, from which losses are drawn' })),
    switches: Type.Optional(Type.Array(name('a switch'), { maxItems: limits.lab_parts_max, description: 'a list of names' })),
    hosts: named(Host, NAME_PATTERN, NAME_FORM, 'hosts by name'),
    links: Type.Optional(named(Link, NAME_PATTERN, NAME_FORM, 'links by name')),
    steps: Type.Optional(Type.Array(Step, { maxItems: limits.lab_parts_max, description: 'a list of steps' })),
  },
  { ...strict, description: 'a topology: name, about, seed, switches, hosts, links, steps' },
);

export type TopologyFile = Static<typeof TopologyFile>;
export type ShapeFile = Static<typeof Shape>;
