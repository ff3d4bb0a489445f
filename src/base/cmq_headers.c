/*-------------------------------------------------------------------------
 *
 * cmq_headers.c
 *	  What cmq adds to the headers of a message that it sends for another one.
 *
 * cmq adds one key, which begins with cmq_.  The value is an object that says where the
 * message comes from.  Any role that may send can write such keys itself: a reader that
 * trusts them trusts every sender.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
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

/*
 * Add {key: {members}}; members is JSON text.  Headers that are no object can have no
 * key added: they are kept under the key "headers".
 */
Datum
cmq_headers_add(Datum headers, bool isnull, const char *key,
				const char *members)
{
	Datum		added =
		DirectFunctionCall1(jsonb_in,
							CStringGetDatum(psprintf("{\"%s\": {%s}}", key,
													 members)));

	if (isnull)
		return added;
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(headers)))
	{
		char	   *old = JsonbToCString(NULL, &DatumGetJsonbP(headers)->root, -1);

		headers = DirectFunctionCall1(jsonb_in,
									  CStringGetDatum(psprintf("{\"headers\": %s}", old)));
	}
	return DirectFunctionCall2(jsonb_concat, headers, added);
}
