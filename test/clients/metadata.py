"""What SQLAlchemy reflects of schema cmq, a line for each relation; and of what it makes nothing."""

import warnings

import sqlalchemy

said = []
warnings.simplefilter("always")
warnings.showwarning = lambda message, *args, **kwargs: said.append(str(message))

metadata = sqlalchemy.MetaData()
metadata.reflect(sqlalchemy.create_engine("postgresql+psycopg2://"), schema="cmq", views=True)
for table in metadata.tables.values():
    print("relation", table.name)
    for column in table.columns:
        if isinstance(column.type, sqlalchemy.types.NullType):
            print("unknown", column)
for message in said:
    print("warning", message)
