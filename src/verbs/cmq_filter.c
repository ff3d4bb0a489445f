/*-------------------------------------------------------------------------
 *
 * cmq_filter.c
 *	  Tags, routing keys and filters as arguments.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/cmq_args.h"
#include "verbs/cmq_filter.h"

static void
report_filter(const char *argname, const char *topic, const char *value,
			  const char *rule)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value in %s for topic \"%s\": \"%s\"", argname,
					topic, value),
			 errdetail("%s", rule)));
}

void
cmq_filter_check_tag(const char *value, const char *argname, const char *topic)
{
	if (value[0] == '\0' || pg_mbstrlen(value) > CMQ_TAG_MAX)
		report_filter(argname, topic, value, "A tag has 1 to 16 characters.");
}

void
cmq_filter_check_key(const char *value, const char *argname, const char *topic)
{
	int			ndots = 0;

	for (const char *p = value; *p; p++)
		ndots += *p == '.';
	if (value[0] == '\0' || strlen(value) > CMQ_KEY_MAX ||
		ndots > CMQ_KEY_DOTS_MAX)
		report_filter(argname, topic, value,
					  "A key has 1 to 64 bytes and at most 15 dots.");
}

/*
 * The elements of an array of filters or tags, each checked; *elements may be
 * NULL.  Raises 22023.
 */
int
cmq_filter_elements(ArrayType *array, const char *argname, const char *topic,
					CmqFilterCheck check, char ***elements)
{
	Datum	   *datums;
	int			n = cmq_array_arg(PointerGetDatum(array), TEXTOID, argname, "topic",
								  topic, &datums, NULL);

	if (n < 1 || n > CMQ_FILTERS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has %d elements for topic \"%s\"", argname, n,
						topic),
				 errdetail("It must have between 1 and %d, or be NULL.",
						   CMQ_FILTERS_MAX)));
	if (elements)
		*elements = palloc(n * sizeof(char *));
	for (int i = 0; i < n; i++)
	{
		char	   *value = TextDatumGetCString(datums[i]);

		check(value, argname, topic);
		if (elements)
			(*elements)[i] = value;
	}
	return n;
}
