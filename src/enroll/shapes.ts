/** The small shapes that the schemas of this folder are made of. */
import { type TProperties, Type } from 'typebox';

/** An object with exactly these properties. */
export const closed = <Properties extends TProperties>(properties: Properties) => Type.Object(properties, { additionalProperties: false });

export const Label = Type.String({ pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$', maxLength: 63 });
export const NodeId = Type.String({ pattern: '^[0-9a-f]{12}$' });
export const Port = Type.Integer({ minimum: 1, maximum: 65_535 });
