# The tables, read from the Avro schemas that the stack registers: there is no second list of columns to keep.

locals {
  glue_types = {
    string           = "string"
    bytes            = "binary"
    int              = "int"
    long             = "bigint"
    boolean          = "boolean"
    double           = "double"
    timestamp-millis = "timestamp"
    "map of bytes"   = "map<string,binary>"
  }

  schemas = { for table, declared in var.tables : table => jsondecode(file("${var.schemas}/${declared.schema}")) }

  # A field's type is a name, an object (a map, or one which a logical type says more of) or a union with null. Whatever
  # else there is ends in a name that glue_types does not know, and the plan fails.
  columns = {
    for table, schema in local.schemas : table => [
      for field in schema.fields : {
        name = field.name
        type = local.glue_types[try(
          "map of ${field.type.values}",
          field.type.logicalType,
          field.type.type,
          [for member in field.type : try(member.logicalType, member.type, member) if member != "null"][0],
          field.type,
        )]
        comment = field.doc
      }
    ]
  }
}

resource "aws_glue_catalog_database" "this" {
  name        = var.database
  description = "Millrace: what every request was answered with and cost, as Parquet, by hour."

  # A table takes the permissions that are the default when it is made.
  depends_on = [aws_lakeformation_data_lake_settings.this]
}

resource "aws_glue_catalog_table" "this" {
  for_each = local.columns

  name          = each.key
  database_name = aws_glue_catalog_database.this.name
  description   = local.schemas[each.key].doc
  table_type    = "EXTERNAL_TABLE"

  # Partitions are computed from the query, so nothing has to announce a new hour. Rows that come after their hour was
  # closed are in hour 24 of their day, those whose time cannot be believed in hour 25: who asks for a day has them too.
  parameters = {
    "EXTERNAL"                  = "TRUE"
    "classification"            = "parquet"
    "projection.enabled"        = "true"
    "projection.dt.type"        = "date"
    "projection.dt.format"      = "yyyy-MM-dd"
    "projection.dt.range"       = "${var.first_day},NOW"
    "projection.hour.type"      = "integer"
    "projection.hour.range"     = "0,25"
    "projection.hour.digits"    = "2"
    "storage.location.template" = "s3://${var.bucket}/${each.key}/dt=$${dt}/hour=$${hour}"
  }

  partition_keys {
    name    = "dt"
    type    = "date"
    comment = "Day (UTC) of ${var.tables[each.key].time}."
  }

  partition_keys {
    name    = "hour"
    type    = "int"
    comment = "Hour (UTC) of ${var.tables[each.key].time}; 24 for rows that came late, 25 for those with an impossible time."
  }

  storage_descriptor {
    location      = "s3://${var.bucket}/${each.key}/"
    input_format  = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
    output_format = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"

    ser_de_info {
      serialization_library = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
    }

    dynamic "columns" {
      for_each = each.value

      content {
        name    = columns.value.name
        type    = columns.value.type
        comment = columns.value.comment
      }
    }
  }
}
