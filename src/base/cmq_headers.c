/*-------------------------------------------------------------------------
 *
 * cmq_headers.c
 *	  Headers of messages: a JSON object, and what cmq adds to those of a message that it
 *	  sends for another one.
 *
 * cmq adds one key, which begins with cmq_.  The value is an object that says where the
 * message comes from, and of which group it was, if it goes where there are none.  Any role that may send can write such keys itself: a reader that
 * trusts them trusts every sender.
 *
 *		The headers of a message are a JSON object, or NULL.
 *
 * A call that takes headers from its caller checks them here; what cmq adds makes an
 * object of any.  Who writes message tables by hand, by COPY or by replication meets a
 * constraint on them, which cmq's own writes need not be checked by (cmq_table.c).  An
 * owner who drops it can write other headers.  They are received, shown and restored as
 * they are; what cmq sends for such a message has none of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type_d.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "base/cmq_headers.h"

/* A time as JSON has it, palloc'd, without quotes. */
char *
cmq_headers_time(TimestampTz time)
{
	char	   *str = palloc(MAXDATELEN + 1);

	JsonEncodeDateTime(str, TimestampTzGetDatum(time), TIMESTAMPTZOID, NULL);
	return str;
}

/* Are these headers an object?  Of large ones only the beginning is read. */
static bool
is_object(Datum headers)
{
	struct varlena *begin = PG_DETOAST_DATUM_SLICE(headers, 0, sizeof(uint32));
	uint32		header;

	memcpy(&header, VARDATA_ANY(begin), sizeof(header));
	return (header & JB_FOBJECT) != 0;
}

/*
 * Raise 22023 unless the headers, which are not SQL NULL, are an object.  They are for a
 * queue or topic of this name; of many they are those of message number so, counted from
 * 1, else that is 0.
 */
void
cmq_headers_check(Datum headers, int number, const char *kind, const char *name)
{
	char	   *type;

	if (is_object(headers))
		return;
	type = TextDatumGetCString(DirectFunctionCall1(jsonb_typeof, headers));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("headers must be a JSON object for %s \"%s\"", kind, name),
			 number == 0 ?
			 errdetail("They are of JSON type %s.", type) :
			 errdetail("Those of message %d are of JSON type %s.", number, type),
			 errhint("Give an object, such as {\"key\": [1, 2]}, or NULL for no headers.")));
}

/*
 * The group of the message that others are sent for, as a member to follow others in what
 * is added; empty if it has none.  palloc'd.  Where the message goes to a queue that has
 * groups it is in the group itself, and headers need not say so.
 */
char *
cmq_headers_group(Datum group, bool isnull)
{
	StringInfoData json;

	initStringInfo(&json);
	if (!isnull)
	{
		appendStringInfoString(&json, ", \"" CMQ_GROUP_MEMBER "\": ");
		escape_json(&json, TextDatumGetCString(group));
	}
	return json.data;
}

/*
 * What a member of the object under this key is, as cmq adds it or anybody else has written
 * it; NULL unless it is a string.  palloc'd.
 */
char *
cmq_headers_get(Datum headers, const char *key, const char *member)
{
	Jsonb	   *jb = DatumGetJsonbP(headers);
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(jb) ||
		getKeyJsonValueFromContainer(&jb->root, key, strlen(key), &value) == NULL ||
		value.type != jbvBinary ||
		!JsonContainerIsObject(value.val.binary.data) ||
		getKeyJsonValueFromContainer(value.val.binary.data, member,
									 strlen(member), &value) == NULL ||
		value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* Add {key: {members}}, or return that alone; members is JSON text. */
Datum
cmq_headers_add(Datum headers, bool isnull, const char *key,
				const char *members)
{
	Datum		added =
		DirectFunctionCall1(jsonb_in,
							CStringGetDatum(psprintf("{\"%s\": {%s}}", key,
													 members)));

	if (isnull || !is_object(headers))
		return added;
	return DirectFunctionCall2(jsonb_concat, headers, added);
}
