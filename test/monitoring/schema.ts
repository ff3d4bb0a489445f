// What examples/monitoring/dashboard.json must be, in the types of Grafana's own schema:
// test/t/204_monitoring.pl has the compiler check it.  The package leaves open what is in
// options and custom of a panel; here they are those of the panel's type.
import type {
	AnnotationQuery, Dashboard, DataQuery, FieldConfig, MatcherConfig, Panel, RowPanel, VariableModel,
} from '@grafana/schema';
import type { FieldConfig as TimeSeriesField, Options as TimeSeriesOptions } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
import type { Options as StatOptions } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { FieldConfig as TableField, Options as TableOptions } from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';

// In JSON the value of an enum is a plain string.
type Json<T> = T extends string ? `${T}` : T extends (infer E)[] ? Json<E>[] : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

// The data source for Prometheus is a plugin, whose queries the package does not have.
interface PrometheusQuery extends DataQuery {
	datasource: { type: 'prometheus', uid: '${datasource}' };
	expr: string;
	legendFormat?: string;
	format?: 'time_series' | 'table' | 'heatmap';
	instant?: boolean;
	range?: boolean;
}

interface PanelOf<Type extends string, Options, Custom> extends Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets' | 'title' | 'description' | 'datasource'> {
	type: Type;
	title: string;
	description: string;
	datasource: { type: 'prometheus', uid: '${datasource}' };
	options: Options;
	fieldConfig: {
		defaults: Omit<FieldConfig, 'custom'> & { unit?: string, custom?: Custom };
		overrides: { matcher: MatcherConfig, properties: { id: string, value?: unknown }[] }[];
	};
	targets: PrometheusQuery[];
}

type AnyPanel =
	| PanelOf<'timeseries', TimeSeriesOptions, TimeSeriesField>
	| PanelOf<'stat', StatOptions, never>
	| PanelOf<'table', TableOptions, TableField>
	| RowPanel;

interface CmqDashboard extends Omit<Dashboard, 'panels' | 'templating' | 'annotations'> {
	title: string;
	uid: string;
	panels: AnyPanel[];
	templating: { list: VariableModel[] };
	annotations: { list: AnnotationQuery<PrometheusQuery | DataQuery & { expr: string }>[] };
}

export type CmqDashboardJson = Json<CmqDashboard>;
